// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The plans of experiments 1 and 2, of which `testvm plan` runs each by itself as well. Drivers
//! and expectations are theirs; the experiments run them in all modes.

use std::sync::LazyLock;

use tsnic_protocol::plan::{Owner, Plan, parse};

static ROUNDS: LazyLock<[Plan; 3]> = LazyLock::new(|| {
    [
        read(include_str!("../../../plans/race-driver.toml")),
        read(include_str!("../../../plans/race-busy-poll.toml")),
        read(include_str!("../../../plans/race-watchdog.toml")),
    ]
});
static RPC: LazyLock<Plan> = LazyLock::new(|| read(include_str!("../../../plans/race-rpc.toml")));

fn read(text: &str) -> Plan {
    parse(text).unwrap_or_else(|error| panic!("A plan of the checkout: {error}"))
}

/// Owners of `NAPI_STATE_SCHED`, one plan each.
pub fn owners() -> Vec<Owner> {
    ROUNDS.iter().filter_map(|plan| plan.run.owner).collect()
}

/// Rounds beside each owner.
pub fn rounds() -> u32 {
    ROUNDS[0].run.requests
}

/// RPCs, and how many of a thousand are injected.
pub fn rpcs() -> (u32, u32) {
    (RPC.run.requests, RPC.run.inject_per_mille.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use tsnic_protocol::plan::{Driver, Traffic};

    use super::*;

    #[test]
    fn the_plans_are_for_rounds_beside_every_owner_and_for_injected_rpcs() {
        assert_eq!(owners(), Owner::ALL);
        for plan in ROUNDS.iter() {
            assert_eq!(plan.run.traffic, Traffic::Rendezvous, "{}", plan.about);
            assert_eq!(plan.run.requests, rounds(), "{}", plan.about);
            assert_eq!(plan.run.driver, Some(Driver::TsnicV410), "{}", plan.about);
        }
        assert_eq!(RPC.run.traffic, Traffic::InjectedRpc);
        assert!(rpcs().0 >= 1000 && rpcs().1 > 0, "{:?}", rpcs());
    }
}
