// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why an experiment could not be carried out. None of these is a verdict.

use thiserror::Error;
use tsnic_protocol::Status;

use crate::{rpc, stream, vm};

/// An experiment could not be carried out.
#[derive(Debug, Error)]
pub enum Error {
    /// The guest or the device.
    #[error(transparent)]
    Vm(#[from] vm::Error),
    /// The RPC client.
    #[error("The RPC client failed")]
    Rpc(#[from] rpc::ClientError),
    /// The times of the RPCs.
    #[error("The times of the RPCs do not fit together")]
    Latency(#[from] rpc::LatencyError),
    /// The driver did not hand over its page, or did not arm, in time.
    #[error("The driver did not arm the device in time after its link came up: {}", state(.0))]
    NotArmed(Box<Status>),
    /// The guest's /proc/interrupts does not have the receive queue's interrupt.
    #[error("The guest has no interrupt named {0}")]
    NoIrq(&'static str),
    /// The rendezvous module is loaded where there is to be none.
    #[error("The guest has module {0}: what is lost in a natural run would show nothing")]
    Hooked(&'static str),
    /// A counter of the rendezvous module.
    #[error("Counter {name} of the rendezvous module is {text:?}")]
    Counter {
        /// Which.
        name: &'static str,
        /// What it said.
        text: String,
    },
    /// The stream into the guest.
    #[error("The stream into the guest broke")]
    Stream(#[from] stream::Error),
    /// A livepatch transition did not end in time.
    #[error("The kernel did not finish the livepatch transition in time")]
    Livepatch,
    /// The device answered a run with something else.
    #[error("The device answered a {run} run with {reply}")]
    Reply {
        /// The run.
        run: &'static str,
        /// The answer.
        reply: String,
    },
}

impl Error {
    /// Slowness alone may have brought this about.
    #[must_use]
    pub fn is_late(&self) -> bool {
        match self {
            Self::NotArmed(_) | Self::Livepatch => true,
            Self::Vm(error) => error.is_late(),
            Self::Rpc(error) => error.is_late(),
            Self::Stream(error) => error.is_late(),
            _ => false,
        }
    }
}

/// What an error message says of a state that is not armed.
pub(crate) fn state(status: &Status) -> String {
    let page = status.page.map_or("no shared queue page".into(), |generation| {
        format!("shared queue page {generation}")
    });
    format!(
        "{page}, produced {}, signaled {}, consumed {}, {}armed",
        status.produced,
        status.signaled,
        status.ci,
        if status.armed { "" } else { "not " }
    )
}
