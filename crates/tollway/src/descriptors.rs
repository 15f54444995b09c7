//! File descriptors. Every connection of a caller takes one, and so does every call to a provider. The process asks the system for
//! all that it may have, and keeps callers' connections below that, so that the database, files and providers always find one.

use engine::{Connections, Settings};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use store::connect::PoolSizes;
use tracing::{info, warn};

/// Beside the pools: files, the lake, child processes, listeners, the runtime's own.
const OWN: u64 = 64;
/// The fewest connections that a gateway is of use with.
const FEWEST: usize = 16;

/// How many this process may have open, after asking for as many as the system grants.
pub fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// What callers may have of so many descriptors: half of what the process itself does not need, for each of their calls may take
/// a second one, to a provider. One address keeps its part of all.
pub fn connections(wanted: Connections, pools: PoolSizes, descriptors: u64) -> Connections {
    let own = OWN + u64::from(pools.api) + u64::from(pools.work);
    let fits = usize::try_from(descriptors.saturating_sub(own) / 2).unwrap_or(usize::MAX).max(FEWEST);
    if wanted.most <= fits {
        return Connections { per_address: wanted.per_address.min(wanted.most), ..wanted };
    }
    let part = wanted.per_address.min(wanted.most).saturating_mul(fits).div_ceil(wanted.most.max(1));
    Connections { most: fits, per_address: part.max(1) }
}

/// The settings with as many connections as this system allows; the log says when that is fewer than was asked for.
pub fn fit(settings: Settings, pools: PoolSizes) -> Settings {
    let descriptors = raise();
    let connections = connections(settings.connections, pools, descriptors);
    let Connections { most, per_address } = connections;
    if most < settings.connections.most {
        warn!(
            most,
            per_address,
            descriptors,
            "This process may open too few files for server.max_connections, so fewer connections are taken; raise `ulimit -n`"
        );
    } else {
        info!(most, per_address, descriptors, "Connections are bounded");
    }
    Settings { connections, ..settings }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: (usize, usize), descriptors: u64, expected: (usize, usize)) {
        let pools = PoolSizes { api: 10, work: 8, ..PoolSizes::default() };
        let wanted = Connections { most: wanted.0, per_address: wanted.1 };
        let got = connections(wanted, pools, descriptors);
        assert_eq!((got.most, got.per_address), expected, "of {descriptors}");
    }

    #[test]
    fn connections_stay_below_the_descriptors() {
        check((10_000, 5_000), 1 << 20, (10_000, 5_000));
        check((10_000, 5_000), 256, (87, 44));
        check((10_000, 10_000), 256, (87, 87));
        check((50, 5_000), 256, (50, 50));
        check((10_000, 5_000), 20, (16, 8));
        check((10_000, 1), 256, (87, 1));
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise(), hard);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
