//! Small changes to known bytes, the same in every run: what a plain test can do of what a fuzzer does.

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when there is none.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.roll() % end).unwrap_or_default()
    }
}

/// `bytes` after one to four changes; some of them bring in a piece of `other`.
#[must_use]
pub fn mutated(bytes: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for _ in 0..=dice.below(4) {
        change(&mut changed, other, dice);
    }
    changed
}

fn change(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    /// Numbers on whose other side something often begins.
    const BORDERS: [u8; 8] = [0, 1, 0x0A, 0x20, 0x30, 0x7F, 0x80, 0xFF];
    let at = dice.below(bytes.len() + 1);
    let end = at + dice.below((bytes.len() - at).min(32) + 1);
    match dice.below(7) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => bytes.insert(at, BORDERS[dice.below(BORDERS.len())]),
        3 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        4 => {
            let from = dice.below(other.len() + 1);
            let until = from + dice.below((other.len() - from).min(64) + 1);
            bytes.splice(at..end, other[from..until].iter().copied());
        }
        5 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = BORDERS[dice.below(BORDERS.len())];
            }
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
    }
}
