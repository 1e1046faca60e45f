//! Where the last block of a deflate stream begins and ends (RFC 1951), found without unpacking anything.
//!
//! libdeflate makes whole streams only. To join several into one, the last block of each must not say that it is the last, and something
//! must fill the rest of its last byte. Neither place is told by anybody, so the codes are walked through: what they mean does not matter,
//! how many bits they take does, and that is a twentieth of the work of finding them.

/// Longest code, in bits.
const LONGEST: usize = 15;

/// Codes of up to so many bits are looked up.
const QUICK: usize = 10;

/// The order of the lengths of the code of lengths.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Symbol that ends a block.
const END: u16 = 256;

/// The last block of a stream, in bits from the stream's beginning.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Last {
    /// Where its header begins, whose first bit says that it is the last.
    pub(super) header: usize,
    /// Where it ends.
    pub(super) end: usize,
}

/// The last block; `None` if the bytes are no stream or cut off.
pub(super) fn last(stream: &[u8]) -> Option<Last> {
    let mut bits = Bits { bytes: stream, at: 0 };
    loop {
        let header = bits.at;
        let is_last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => bits.pass_stored()?,
            1 => {
                let lengths: Vec<u8> = (0..288).map(fixed_length).collect();
                bits.pass_codes(&Code::new(&lengths)?, &Code::new(&[5; 30])?)?;
            }
            2 => {
                let (symbols, distances) = bits.take_codes()?;
                bits.pass_codes(&symbols, &distances)?;
            }
            _ => return None,
        }
        if is_last {
            return Some(Last { header, end: bits.at });
        }
    }
}

/// RFC 1951 section 3.2.6.
fn fixed_length(symbol: u16) -> u8 {
    match symbol {
        0..144 => 8,
        144..256 => 9,
        256..280 => 7,
        _ => 8,
    }
}

/// Extra bits behind a literal or a length (RFC 1951 section 3.2.5).
fn extra_of_symbol(symbol: u16) -> u8 {
    match symbol {
        265..285 => ((symbol - 261) / 4) as u8,
        _ => 0,
    }
}

/// Extra bits behind a distance.
fn extra_of_distance(symbol: u16) -> u8 {
    (symbol / 2).saturating_sub(1) as u8
}

/// What a code stands for.
#[derive(Clone, Copy)]
struct Hit {
    symbol: u16,
    /// Length of the code; 0 for none.
    bits: u8,
}

/// A canonical Huffman code.
struct Code {
    quick: Vec<Hit>,
    /// How many codes there are of each length.
    count: [u16; LONGEST + 1],
    /// Symbols by length of their code, then by value.
    symbols: Vec<u16>,
}

impl Code {
    /// The code of symbols with codes so long; `None` if there are more than fit.
    fn new(lengths: &[u8]) -> Option<Code> {
        let mut count = [0u16; LONGEST + 1];
        lengths.iter().for_each(|&n| count[usize::from(n)] += 1);
        count[0] = 0;
        let mut symbols: Vec<u16> =
            (0..lengths.len() as u16).filter(|&s| lengths[usize::from(s)] > 0).collect();
        symbols.sort_by_key(|&s| (lengths[usize::from(s)], s));
        let mut quick = vec![Hit { symbol: 0, bits: 0 }; 1 << QUICK];
        let (mut code, mut before) = (0usize, 0usize);
        for &symbol in &symbols {
            let length = usize::from(lengths[usize::from(symbol)]);
            code <<= length - before;
            before = length;
            if code >> length != 0 {
                return None;
            }
            if length <= QUICK {
                // Codes are packed from their highest bit on, all else from the lowest.
                let from = code.reverse_bits() >> (usize::BITS as usize - length);
                for at in (from..1 << QUICK).step_by(1 << length) {
                    quick[at] = Hit { symbol, bits: length as u8 };
                }
            }
            code += 1;
        }
        Some(Code { quick, count, symbols })
    }

    /// The code that `bits` begin with.
    #[inline]
    fn find(&self, bits: u64) -> Option<Hit> {
        match self.quick[bits as usize & ((1 << QUICK) - 1)] {
            Hit { bits: 0, .. } => self.find_long(bits),
            hit => Some(hit),
        }
    }

    fn find_long(&self, bits: u64) -> Option<Hit> {
        let (mut code, mut first, mut index) = (0u64, 0u64, 0u64);
        for length in 1..=LONGEST {
            code |= bits >> (length - 1) & 1;
            let count = u64::from(self.count[length]);
            if code < first + count {
                let symbol = *self.symbols.get((index + code - first) as usize)?;
                return Some(Hit { symbol, bits: length as u8 });
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits passed.
    at: usize,
}

impl Bits<'_> {
    /// The next bits, 57 at least; zeros behind the end.
    #[inline]
    fn peek(&self) -> u64 {
        let rest = &self.bytes[(self.at / 8).min(self.bytes.len())..];
        let word = match rest.first_chunk::<8>() {
            Some(word) => u64::from_le_bytes(*word),
            None => rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
        };
        word >> (self.at % 8)
    }

    /// Passes over bits that are there.
    fn pass(&mut self, n: usize) -> Option<()> {
        self.at += n;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    fn take(&mut self, n: usize) -> Option<u16> {
        let value = self.peek() & ((1 << n) - 1);
        self.pass(n)?;
        u16::try_from(value).ok()
    }

    fn pass_stored(&mut self) -> Option<()> {
        self.at = self.at.next_multiple_of(8);
        let length = self.take(16)?;
        if self.take(16)? != !length {
            return None;
        }
        self.pass(usize::from(length) * 8)
    }

    /// The codes of a block, for literals and lengths, and for distances (RFC 1951 section 3.2.7).
    fn take_codes(&mut self) -> Option<(Code, Code)> {
        let symbols = usize::from(self.take(5)?) + 257;
        let distances = usize::from(self.take(5)?) + 1;
        let given = usize::from(self.take(4)?) + 4;
        let mut of_lengths = [0u8; ORDER.len()];
        for &at in &ORDER[..given] {
            of_lengths[at] = self.take(3)? as u8;
        }
        let code = Code::new(&of_lengths)?;
        let mut lengths: Vec<u8> = Vec::with_capacity(symbols + distances);
        while lengths.len() < symbols + distances {
            let hit = code.find(self.peek())?;
            self.pass(usize::from(hit.bits))?;
            let (length, times) = match hit.symbol {
                16 => (*lengths.last()?, 3 + self.take(2)?),
                17 => (0, 3 + self.take(3)?),
                18 => (0, 11 + self.take(7)?),
                length => (length as u8, 1),
            };
            lengths.extend(std::iter::repeat_n(length, usize::from(times)));
        }
        if lengths.len() > symbols + distances {
            return None;
        }
        Some((Code::new(&lengths[..symbols])?, Code::new(&lengths[symbols..])?))
    }

    /// Passes over what is in a block, its end included.
    fn pass_codes(&mut self, symbols: &Code, distances: &Code) -> Option<()> {
        loop {
            let bits = self.peek();
            let hit = symbols.find(bits)?;
            let mut n = usize::from(hit.bits);
            if hit.symbol > END {
                // A length with its extra bits and a distance with its own are 48 bits at most.
                n += usize::from(extra_of_symbol(hit.symbol));
                let distance = distances.find(bits >> n)?;
                n += usize::from(distance.bits + extra_of_distance(distance.symbol));
            }
            self.pass(n)?;
            if hit.symbol == END {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(header: usize, end: usize) -> Option<Last> {
        Some(Last { header, end })
    }

    #[test]
    fn blocks_of_all_kinds() {
        // Stored, empty; then fixed codes: nothing but the end.
        assert_eq!(last(&[1, 0, 0, 0xff, 0xff]), at(0, 40));
        assert_eq!(last(&[3, 0]), at(0, 10));
        assert_eq!(last(&[0, 1, 0, 0xfe, 0xff, b'x', 3, 0]), at(48, 58));
        // "aaaaaaaaaa" by zlib: a literal and a match of fixed codes.
        assert_eq!(last(&[0x4b, 0x84, 0x01, 0x00]), at(0, 30));
    }

    #[test]
    fn what_is_no_stream_is_told() {
        for bad in
            [&[][..], &[7], &[1, 0, 0, 0xff], &[1, 0, 0, 0xff, 0xfe], &[1, 2, 0, 0xfd, 0xff, b'x'], &[2]]
        {
            assert_eq!(last(bad), None, "{bad:?}");
        }
        // Three codes of one bit.
        assert!(Code::new(&[1, 1, 1]).is_none());
    }

    #[test]
    fn long_codes_are_found() {
        // 1, 2, ..., 14 bits, and two of 15.
        let lengths: Vec<u8> = (1..=15).chain([15]).collect();
        let code = Code::new(&lengths).expect("a complete code");
        for (symbol, &length) in lengths.iter().enumerate() {
            // As many ones as the symbol's number, and a zero where there is room.
            let bits = (1u64 << symbol.min(15)) - 1;
            let hit = code.find(bits).expect("every code is there");
            assert_eq!((usize::from(hit.symbol), hit.bits), (symbol, length));
        }
    }
}
