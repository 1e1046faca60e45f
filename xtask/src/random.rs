//! Numbers that look random and are the same on each run.

/// A small deterministic generator (xorshift64*).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator for a seed; neighbouring seeds give numbers that have nothing to do with each other.
    pub(crate) fn new(seed: u64) -> Random {
        Random::from_state(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A generator in a state, of which the last bit counts as set: 0 would stay 0.
    pub(crate) fn from_state(state: u64) -> Random {
        Random(state | 1)
    }

    /// A number of 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`; 0 where there is none.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from((self.next() >> 33) % n.max(1) as u64).unwrap_or(0)
    }

    /// One of a list, which is not empty.
    pub(crate) fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Whether something happens that happens so many times out of a hundred.
    pub(crate) fn percent(&mut self, n: usize) -> bool {
        self.below(100) < n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_seed_others() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            (0..20).map(|_| random.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
        assert!(numbers(3).iter().any(|&n| n > 500));
    }
}
