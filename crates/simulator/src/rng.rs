//! Chance that repeats: the same seed gives the n-th call of a deployment the same fate in every run.

/// SplitMix64, written out because its numbers must not change with a library's version.
pub struct Rng(u64);

impl Rng {
    /// The dice of call number `call` (from 0) of a deployment with this seed.
    pub fn new(seed: u64, call: u64) -> Self {
        Self(mix(seed ^ mix(call)))
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in `[0, 1)`.
    pub fn fraction(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.fraction()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.fraction()).cos()
    }
}

/// A bijection of 64 bits in which every input bit reaches every output bit.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A 64-bit fingerprint of `bytes`, eight of them a step. It is part of what the simulator answers, so it is fixed.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = mix(bytes.len() as u64 ^ 0x51_6d_75_6c);
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash ^ u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_repeat_for_a_call_and_differ_between_calls() {
        let first = |seed, call| Rng::new(seed, call).roll();
        assert_eq!(first(7, 1), first(7, 1));
        assert_ne!(first(7, 1), first(7, 2));
        assert_ne!(first(7, 1), first(8, 1));
    }

    #[test]
    fn fractions_fill_the_unit_interval_evenly() {
        let below = (0..10_000).filter(|&call| Rng::new(1, call).fraction() < 0.2).count();
        assert!((1_850..2_150).contains(&below), "{below} of 10,000 below 0.2");
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let values: Vec<f64> = (0..10_000).map(|call| Rng::new(3, call).normal()).collect();
        let mean = values.iter().sum::<f64>() / 10_000.0;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.05, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
    }

    #[test]
    fn fingerprint_sees_length_order_and_every_byte() {
        let base = b"a corpus of 32 bytes, more or so".to_vec();
        let mut prints = vec![fingerprint(&base), fingerprint(b""), fingerprint(b"\0")];
        for at in 0..base.len() {
            let mut other = base.clone();
            other[at] ^= 1;
            prints.push(fingerprint(&other));
        }
        let count = prints.len();
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), count);
    }
}
