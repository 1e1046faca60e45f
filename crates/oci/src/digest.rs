//! Content digests: sha256 only, written `sha256:<64 lower-case hex digits>` (OCI image specification, descriptor.md).
//!
//! Other registered algorithms (sha512) are refused with [`DigestError::Algorithm`]: no registry in use serves them alone,
//! and one algorithm keeps object names and keys comparable.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256};

/// A sha256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest that we take.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DigestError {
    /// There is no `algorithm:hex` in it, or the hex part is not 64 lower-case digits.
    #[error("{0:?} is not a digest: expected sha256: and 64 lower-case hex digits")]
    Syntax(String),
    /// A digest of another algorithm.
    #[error("digest algorithm {0:?} is not supported (only sha256)")]
    Algorithm(String),
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// A digest from its 32 raw bytes.
    pub const fn from_bytes(raw: [u8; 32]) -> Digest {
        Digest(raw)
    }

    /// The 32 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hex part alone: 64 lower-case digits.
    pub fn hex(&self) -> String {
        let mut out = String::with_capacity(64);
        for b in self.0 {
            out.push(char::from(HEX[usize::from(b >> 4)]));
            out.push(char::from(HEX[usize::from(b & 15)]));
        }
        out
    }

    /// From the hex part alone.
    pub fn from_hex(hex: &str) -> Result<Digest, DigestError> {
        let bad = || DigestError::Syntax(hex.chars().take(80).collect());
        let raw = hex.as_bytes();
        if raw.len() != 64 {
            return Err(bad());
        }
        let mut out = [0u8; 32];
        for (i, pair) in raw.chunks_exact(2).enumerate() {
            out[i] = nibble(pair[0]).ok_or_else(bad)? << 4 | nibble(pair[1]).ok_or_else(bad)?;
        }
        Ok(Digest(out))
    }

    /// The first 12 hex digits: what people are shown.
    pub fn short(&self) -> String {
        let mut h = self.hex();
        h.truncate(12);
        h
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn nibble(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(s: &str) -> Result<Digest, DigestError> {
        match s.split_once(':') {
            Some(("sha256", hex)) => {
                Digest::from_hex(hex).map_err(|_| DigestError::Syntax(s.chars().take(80).collect()))
            }
            Some((algorithm, hex))
                if !hex.is_empty() && algorithm.bytes().all(|c| c.is_ascii_alphanumeric()) =>
            {
                Err(DigestError::Algorithm(algorithm.chars().take(32).collect()))
            }
            _ => Err(DigestError::Syntax(s.chars().take(80).collect())),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Digest, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A running sha256 that also counts bytes. It is an [`io::Write`] sink.
#[derive(Clone, Default)]
pub struct Hasher {
    inner: Sha256,
    bytes: u64,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Hasher {
    /// An empty running digest.
    pub fn new() -> Hasher {
        Hasher::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes were added.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        Digest(self.inner.finalize().into())
    }

    /// What is needed to go on from here, in another process: see [`Hasher::resume`].
    ///
    /// Sixteen bytes of a sha256 over the rest, the number of bytes added (little-endian), and the state as the `sha2` crate serializes it.
    pub fn state(&self) -> Vec<u8> {
        let mut rest = self.bytes.to_le_bytes().to_vec();
        rest.extend_from_slice(&self.inner.serialize());
        [&Digest::of(&rest).0[..16], &rest].concat()
    }

    /// The hasher that [`Hasher::state`] was asked of; `None` if the bytes are not what it gave.
    pub fn resume(state: &[u8]) -> Option<Hasher> {
        let (sum, rest) = state.split_at_checked(16)?;
        if Digest::of(rest).0[..16] != *sum {
            return None;
        }
        let (bytes, inner) = rest.split_first_chunk::<8>()?;
        let inner = Sha256::deserialize(&inner.try_into().ok()?).ok()?;
        Some(Hasher { inner, bytes: u64::from_le_bytes(*bytes) })
    }
}

impl Write for Hasher {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.update(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer or reader that hashes and counts what passes through it.
#[derive(Debug)]
pub struct Hashing<T> {
    inner: T,
    hasher: Hasher,
}

impl<T> Hashing<T> {
    /// Wraps a reader or writer.
    pub fn new(inner: T) -> Hashing<T> {
        Hashing { inner, hasher: Hasher::new() }
    }

    /// Wraps a reader or writer; what passes is added to what the hasher has.
    pub fn resume(inner: T, hasher: Hasher) -> Hashing<T> {
        Hashing { inner, hasher }
    }

    /// Bytes that passed so far.
    pub fn bytes(&self) -> u64 {
        self.hasher.bytes()
    }

    /// The running digest.
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// The wrapped value, the digest and the number of bytes that passed.
    pub fn finish(self) -> (T, Digest, u64) {
        let n = self.hasher.bytes();
        (self.inner, self.hasher.finish(), n)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hasher.update(&buf[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(&buf[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_value_and_round_trip() {
        let d = Digest::of(b"abc");
        assert_eq!(d.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(d.to_string().parse::<Digest>().unwrap(), d);
    }

    #[test]
    fn refuses_what_is_no_digest() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for bad in [
            hex.to_owned(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}", &hex[1..]),
            "sha256:".into(),
            "".into(),
        ] {
            assert!(matches!(bad.parse::<Digest>(), Err(DigestError::Syntax(_))), "{bad}");
        }
        assert_eq!(format!("sha512:{hex}").parse::<Digest>(), Err(DigestError::Algorithm("sha512".into())));
    }

    #[test]
    fn a_state_can_be_gone_on_with() {
        for length in [0, 1, 63, 64, 65, 1000] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut h = Hasher::new();
            h.update(&bytes);
            let mut again = Hasher::resume(&h.state()).unwrap();
            assert_eq!(again.bytes(), length);
            again.update(b"more");
            assert_eq!(again.finish(), Digest::of(&[&bytes, &b"more"[..]].concat()));
        }
        assert!(Hasher::resume(b"").is_none());
    }

    /// States are kept in stores: who reads them another way than they were written would make wrong digests.
    #[test]
    fn states_of_earlier_versions_mean_the_same() {
        let kept = "482f5d77022da9a1fb0bd66d2908c4c364000000000000001cb85bdf26061ee894a845fb310fd44f16685eb2c199d4d6294990ab665e6300\
                    0100000000000000246161616161616161616161616161616161616161616161616161616161616161616161610000000000000000\
                    00000000000000000000000000000000000000";
        let bytes: Vec<u8> =
            (0..kept.len() / 2).map(|i| u8::from_str_radix(&kept[2 * i..2 * i + 2], 16).unwrap()).collect();
        let mut h = Hasher::resume(&bytes).unwrap();
        h.update(b"b");
        let whole = [vec![b'a'; 100], vec![b'b']].concat();
        assert_eq!((h.bytes(), h.finish()), (101, Digest::of(&whole)));
    }

    #[test]
    fn hashing_reader_sees_every_byte() {
        let mut r = Hashing::new(&b"abc"[..]);
        let mut out = Vec::new();
        r.read_to_end(&mut out).unwrap();
        let (_, d, n) = r.finish();
        assert_eq!((d, n), (Digest::of(b"abc"), 3));
    }
}
