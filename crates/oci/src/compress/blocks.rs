//! Where the last block of a deflate stream begins and ends (RFC 1951), found without unpacking anything.
//!
//! libdeflate makes whole streams only. To join several into one, the last block of each must not say that it is the last, and something
//! must fill the rest of its last byte. Neither place is told by anybody, so the codes are walked through: what they mean does not matter,
//! how many bits they take does. That takes a quarter of the time of finding them.

/// Longest code, in bits.
const LONGEST: usize = 15;

/// Codes of up to so many bits are looked up. With the extra bits of a length, and the longest distance with its extra bits, these are
/// 12 + 5 + 15 + 13 = 45 bits: less than is at hand at any time.
const QUICK: usize = 12;

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
                bits.pass_codes(&Steps::of_symbols(&lengths)?, &Steps::new(&[5; 30], of_distance)?)?;
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

/// What bits begin with, to somebody who only wants to pass over it: the number of bits to pass, extra bits included, and some of the flags
/// below; none for literals and distances, behind which comes nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Step(u16);

/// A length, behind which comes a distance.
const LENGTH: u16 = 1 << 15;
/// The end of the block.
const ENDS: u16 = 1 << 14;
/// A code that is longer than what is looked up, or none.
const LONG: u16 = 1 << 13;

impl Step {
    const NONE: Step = Step(LONG);

    #[inline]
    fn bits(self) -> u16 {
        self.0 & 0x3f
    }

    #[inline]
    fn is(self, what: u16) -> bool {
        self.0 & what != 0
    }
}

/// A literal or a length with its extra bits (RFC 1951 section 3.2.5).
fn of_symbol(symbol: u16) -> Step {
    Step(match symbol {
        0..END => 0,
        END => ENDS,
        265..285 => LENGTH | ((symbol - 261) / 4),
        _ => LENGTH,
    })
}

/// A distance and its extra bits.
fn of_distance(symbol: u16) -> Step {
    Step((symbol / 2).saturating_sub(1))
}

/// A code, to pass over.
struct Steps {
    quick: Box<[Step; 1 << QUICK]>,
    code: Code,
    of: fn(u16) -> Step,
}

impl Steps {
    /// Of symbols with codes so long; `None` if there are more than fit.
    fn new(lengths: &[u8], of: fn(u16) -> Step) -> Option<Steps> {
        let code = Code::new(lengths)?;
        let mut quick = Box::new([Step::NONE; 1 << QUICK]);
        code.each(|bits, length, symbol| {
            let step = Step(of(symbol).0 + length);
            quick.iter_mut().skip(bits).step_by(1 << length).for_each(|at| *at = step);
        });
        Some(Steps { quick, code, of })
    }

    /// Of literals and lengths. Several literals, and what comes behind them, are one step as far as they fit.
    fn of_symbols(lengths: &[u8]) -> Option<Steps> {
        let mut steps = Steps::new(lengths, of_symbol)?;
        let one = steps.quick.clone();
        let mut code_bits = [0u16; 1 << QUICK];
        steps.code.each(|bits, length, _| {
            code_bits.iter_mut().skip(bits).step_by(1 << length).for_each(|at| *at = length);
        });
        for (bits, step) in steps.quick.iter_mut().enumerate() {
            while !step.is(LENGTH | ENDS | LONG) {
                let rest = bits >> step.bits();
                // What is looked up of the next code must be all of it.
                if one[rest] == Step::NONE || usize::from(step.bits() + code_bits[rest]) > QUICK {
                    break;
                }
                step.0 += one[rest].0;
            }
        }
        Some(steps)
    }

    #[inline]
    fn quick(&self, bits: u64) -> Step {
        self.quick[bits as usize & ((1 << QUICK) - 1)]
    }

    /// Looks at one code.
    fn one(&self, bits: u64) -> Option<Step> {
        let (symbol, length) = self.code.find(bits)?;
        Some(Step((self.of)(symbol).0 + length))
    }
}

/// A canonical Huffman code.
struct Code {
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
        let mut free = 1u32;
        for &n in &count[1..] {
            free = (free << 1).checked_sub(u32::from(n))?;
        }
        let mut symbols: Vec<u16> =
            (0..lengths.len() as u16).filter(|&s| lengths[usize::from(s)] > 0).collect();
        symbols.sort_by_key(|&s| (lengths[usize::from(s)], s));
        Some(Code { count, symbols })
    }

    /// Calls `visit` for each code of up to [`QUICK`] bits: its bits in the order in which they are packed, their number, the symbol.
    fn each(&self, mut visit: impl FnMut(usize, u16, u16)) {
        let mut symbols = self.symbols.iter();
        let mut code = 0usize;
        for length in 1..=QUICK {
            code <<= 1;
            for &symbol in symbols.by_ref().take(usize::from(self.count[length])) {
                // Codes are packed from their highest bit on, all else from the lowest.
                visit(code.reverse_bits() >> (usize::BITS as usize - length), length as u16, symbol);
                code += 1;
            }
        }
    }

    /// The symbol whose code `bits` begin with, and the code's length.
    fn find(&self, bits: u64) -> Option<(u16, u16)> {
        let (mut code, mut first, mut index) = (0u64, 0u64, 0u64);
        for length in 1..=LONGEST {
            code |= bits >> (length - 1) & 1;
            let count = u64::from(self.count[length]);
            if code < first + count {
                return Some((*self.symbols.get((index + code - first) as usize)?, length as u16));
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
    fn take_codes(&mut self) -> Option<(Steps, Steps)> {
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
            let (symbol, bits) = code.find(self.peek())?;
            self.pass(usize::from(bits))?;
            let (length, times) = match symbol {
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
        let (symbols, distances) = lengths.split_at(symbols);
        Some((Steps::of_symbols(symbols)?, Steps::new(distances, of_distance)?))
    }

    /// Passes over what is in a block, its end included.
    fn pass_codes(&mut self, symbols: &Steps, distances: &Steps) -> Option<()> {
        loop {
            self.pass_quickly(symbols, distances);
            let step = symbols.one(self.peek())?;
            self.pass(usize::from(step.bits()))?;
            if step.is(ENDS) {
                return Some(());
            }
            if step.is(LENGTH) {
                let distance = distances.one(self.peek())?;
                self.pass(usize::from(distance.bits()))?;
            }
        }
    }

    /// Passes over codes up to one that cannot be looked up, ends the block, or lies in the last bytes.
    ///
    /// The bits at hand are kept apart from where more are read, so that no step has to wait for memory: it waits for two look-ups.
    fn pass_quickly(&mut self, symbols: &Steps, distances: &Steps) {
        let word = |at: usize| self.bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word));
        let mut next = self.at / 8;
        let Some(first) = word(next) else { return };
        let (mut bits, mut left) = (first >> (self.at % 8), 64 - self.at % 8);
        next += 8;
        while let Some(word) = word(next) {
            // Full but for less than a byte; what is read again has the same bits.
            if left < 64 {
                bits |= word << left;
                next += (63 - left) / 8;
                left |= 56;
            }
            let step = symbols.quick(bits);
            let behind = bits >> step.bits();
            // A distance is looked up also where none comes: that is as good as random, and to guess wrong takes longer than to look.
            let none = if step.is(LENGTH) { u16::MAX } else { 0 };
            let distance = Step(distances.quick(behind).0 & none);
            if Step(step.0 | distance.0).is(ENDS | LONG) {
                break;
            }
            bits = behind >> distance.bits();
            left -= usize::from(step.bits() + distance.bits());
        }
        self.at = next * 8 - left;
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
        let steps = Steps::new(&lengths, of_distance).expect("a complete code");
        for (symbol, &length) in (0u16..).zip(&lengths) {
            // As many ones as the symbol's number, and a zero where there is room.
            let bits = (1u64 << symbol.min(15)) - 1;
            assert_eq!(code.find(bits), Some((symbol, u16::from(length))));
            let step = steps.one(bits).expect("every code is there");
            assert_eq!(step.bits(), u16::from(length) + of_distance(symbol).bits());
            assert!([step, Step::NONE].contains(&steps.quick(bits)));
        }
    }
}
