//! Which custom ids were seen. 17 to 34 bytes of memory an id, however long it is.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
};

use sha2::{Digest, Sha256};

/// Each grows by itself, so that growing never needs much more than what is there already.
const SHARDS: usize = 64;

/// A set of 128-bit hashes. Their key is random, so that nobody can prepare ids that collide.
pub struct CustomIds {
    keyed: Sha256,
    shards: Vec<HashSet<u128, BuildHasherDefault<AsItIs>>>,
}

impl CustomIds {
    pub fn new() -> Self {
        // As long as a block of SHA-256: it is worked in once.
        let key: [u8; 64] = std::array::from_fn(|_| rand::random());
        Self { keyed: Sha256::new_with_prefix(key), shards: vec![HashSet::default(); SHARDS] }
    }

    /// False when it was there.
    pub fn insert(&mut self, id: &str) -> bool {
        let digest = self.keyed.clone().chain_update(id).finalize();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        self.shards[usize::from(digest[16]) % SHARDS].insert(u128::from_le_bytes(half))
    }
}

/// The hash of a hash is a part of it.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once() {
        let mut ids = CustomIds::new();
        let all: Vec<String> = (0..20_000).map(|n| format!("doc-{n}")).collect();
        assert!(all.iter().all(|id| ids.insert(id)));
        assert!(!all.iter().any(|id| ids.insert(id)));
        assert!(ids.insert(""));
    }

    #[test]
    fn two_uploads_hash_differently() {
        let hash = |ids: &CustomIds| ids.keyed.clone().chain_update("a").finalize();
        assert_ne!(hash(&CustomIds::new()), hash(&CustomIds::new()));
    }
}
