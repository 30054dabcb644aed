//! The dice of a life: small, and the same everywhere.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of one of several things that the same seed decides (FNV-1a of its name).
    #[must_use]
    pub fn of(seed: u64, what: &str) -> Self {
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        let mut dice = Self(what.bytes().fold(0xCBF2_9CE4_8422_2325, hash) ^ seed);
        let first = dice.roll();
        Self(first ^ seed.rotate_left(32))
    }

    /// The next 64 bits.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// At least `low`, below `high`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % high.saturating_sub(low).max(1)
    }

    /// True `out_of_hundred` times of a hundred.
    pub fn chance(&mut self, out_of_hundred: u64) -> bool {
        self.within(0, 100) < out_of_hundred
    }

    /// One of them.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        let at = usize::try_from(self.within(0, of.len() as u64)).expect("an index");
        of.get(at).expect("at least one to pick from").clone()
    }
}
