//! A small generator with a fixed seed (splitmix64): the same inputs in every run.

#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw().checked_rem(limit).unwrap()
    }

    /// 1 to 2^96 - 1, every magnitude as likely as another.
    pub fn amount(&mut self) -> u128 {
        let wide = (u128::from(self.draw()) << 64) | u128::from(self.draw());
        let bits = 1 + self.below(96);
        (wide & ((1_u128 << bits) - 1)).max(1)
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.draw().to_be_bytes()[0])
    }
}
