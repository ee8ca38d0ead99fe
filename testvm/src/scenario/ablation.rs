// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiment 4: the running kernel with one clause of NAPI's protocol taken away. The rounds of
//! experiment 1, and what the clauses that lose nothing save under real traffic.

use std::net::SocketAddrV4;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;

use super::clause::Clause;
use super::error::Error;
use super::experiment::Experiment;
use super::guest::{Guest, RPC_PORT};
use super::paced::Paced;
use super::plan::{AblationPlan, Mode, Owner};
use crate::progress::Stage;
use crate::report::{Block, Trials};
use crate::rpc::{ClientConfig, ClientError, converse};
use crate::stream;

/// The guest's TCP port of the stream.
const STREAM_PORT: u16 = 7002;
/// For a block.
const BLOCK_LIMIT: Duration = Duration::from_secs(60);
/// Time between a reply and the next request, microseconds: not more than the server busy-polls.
const THINK_US: (u32, u32) = (0, 200);

impl Experiment<'_, '_> {
    /// All clauses: rounds beside every owner, then blocks of real traffic.
    pub(super) fn ablation(&mut self, mode: Mode, plan: AblationPlan) -> Result<(), Error> {
        for owner in Owner::ALL {
            for clause in Clause::ALL {
                self.guest.set_clause(clause)?;
                let before = self.guest.tally()?;
                let cell = self.rounds(format!("{clause}, {owner}"), mode, owner)?;
                let bent = self.guest.tally()?.since(&before).bent;
                self.results.ablation.trials.push(Trials { clause, bent, cell });
            }
        }
        self.traffic(plan)?;
        self.guest.set_clause(Clause::None)
    }

    /// The clauses in turn, in an order of the seed: what changes in the guest or on the host in
    /// the course of a run is not taken for a difference of clauses.
    fn traffic(&mut self, plan: AblationPlan) -> Result<(), Error> {
        let mut random = Pcg64Mcg::seed_from_u64(self.seed);
        let total = u64::from(plan.blocks) * Clause::COSTING.len() as u64;
        let mut stage = self.progress.stage(Stage::Run("clauses, traffic".to_owned()));
        self.guest.start_traffic()?;
        let mut done = 0;
        for _ in 0..plan.blocks {
            let mut clauses = Clause::COSTING;
            clauses.shuffle(&mut random);
            for clause in clauses {
                self.guest.set_clause(clause)?;
                let block = block(&mut self.guest, clause, plan.bytes, self.seed + done)?;
                self.results.ablation.blocks.push(block);
                done += 1;
                stage.at(done, total);
            }
        }
        self.guest.stop_traffic()?;
        stage.done(format!("{total} blocks"));
        Ok(())
    }
}

/// A TCP stream into the guest, with RPCs beside it as long as it takes.
fn block(guest: &mut Guest, clause: Clause, bytes: u64, seed: u64) -> Result<Block, Error> {
    guest.wait_armed()?;
    let before = guest.tally()?;
    let over = Arc::new(AtomicBool::new(false));
    let config = ClientConfig {
        server: SocketAddrV4::new(guest.vm().link().guest_ip, RPC_PORT),
        requests: u32::MAX,
        seed,
        think_us: THINK_US,
        limit: guest.vm().limit(BLOCK_LIMIT),
    };
    let until = Arc::clone(&over);
    let rpcs = thread::spawn(move || {
        converse(&config, |_| {
            if until.load(Ordering::SeqCst) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    });
    let paced = move |stream| Paced::new(stream, seed);
    let streamed = stream::inwards(guest.vm(), STREAM_PORT, bytes, BLOCK_LIMIT, paced);
    over.store(true, Ordering::SeqCst);
    let talked: Result<(), ClientError> =
        rpcs.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    guest.vm().check("a block of traffic")?;
    streamed?;
    talked?;
    guest.wait_armed()?;
    Ok(Block { clause, tally: guest.tally()?.since(&before) })
}
