// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Requests to deeds.

use std::time::Duration;

use guest_protocol::{Reply, Request, icmp};

use crate::error::Error;
use crate::kmsg::KernelLog;
use crate::receiver::Receiver;
use crate::rpc::RpcServer;
use crate::{
    affinity, clock, ethtool, files, hwtstamp, limit, link, modules, napi, packet, program, shell,
    snapshot, stream,
};

/// What the agent keeps from one request to the next.
#[derive(Debug, Default)]
pub struct Agent {
    receiver: Option<Receiver>,
    rpc: Option<RpcServer>,
    log: Option<KernelLog>,
    shell: bool,
}

impl Agent {
    /// Carries a request out. Whatever goes wrong becomes [`Reply::Error`], or [`Reply::Late`].
    /// [`Request::PowerOff`] and [`Request::Reboot`] are the caller's: here the first only stops
    /// what is running, and the second leaves even that as it is.
    pub fn handle(&mut self, request: Request) -> Reply {
        self.carry_out(request).unwrap_or_else(|error| error.reply())
    }

    fn carry_out(&mut self, request: Request) -> Result<Reply, Error> {
        match request {
            Request::InsertModule { path, params } => modules::insert(&path, &params)?,
            Request::RemoveModule { name } => modules::remove(&name)?,
            Request::WriteFile { path, value } => files::write(&path, &value)?,
            Request::ReadFile { path } => return Ok(Reply::Text { text: files::read(&path)? }),
            Request::LinkUp { name, ip, prefix_len, neighbours } => {
                link::up(&name, ip, prefix_len, &neighbours)?;
            }
            Request::LinkDown { name } => link::down(&name)?,
            Request::IrqAffinity { irq, cpu } => affinity::bind_irq(&irq, cpu)?,
            Request::PinThread { comm_prefix, cpu } => affinity::pin_threads(&comm_prefix, cpu)?,
            Request::HwTimestamps { name } => hwtstamp::enable(&name)?,
            Request::Coalescing { name } => {
                return Ok(Reply::Coalescing(ethtool::coalescing(&name)?));
            }
            Request::SetCoalescing { name, coalescing } => {
                ethtool::set_coalescing(&name, coalescing)?;
            }
            Request::Clock { path, action } => {
                return Ok(Reply::Time { ns: clock::act(&path, action)? });
            }
            Request::Channels { name } => return Ok(Reply::Channels(ethtool::channels(&name)?)),
            Request::SetChannels { name, combined } => ethtool::set_channels(&name, combined)?,
            Request::ReceiverStart { local, peer, busy_poll_us, cpu } => {
                if self.receiver.is_some() {
                    return Err(Error::State("A UDP receiver is running already"));
                }
                self.receiver = Some(Receiver::start(local, peer, busy_poll_us, cpu)?);
            }
            Request::ReceiverStop => {
                let receiver =
                    self.receiver.take().ok_or(Error::State("No UDP receiver is running"))?;
                return Ok(Reply::Count { count: receiver.stop()? });
            }
            Request::RpcStart { local, busy_poll_us, cpu } => {
                if self.rpc.is_some() {
                    return Err(Error::State("An RPC server is running already"));
                }
                self.rpc = Some(RpcServer::start(local, busy_poll_us, cpu)?);
            }
            Request::RpcStop => {
                let server = self.rpc.take().ok_or(Error::State("No RPC server is running"))?;
                return Ok(Reply::Count { count: server.stop()? });
            }
            Request::Ping { to, count } => {
                let pings = icmp::ping(to, count, limit::scaled(icmp::PATIENCE));
                return pings.map(Reply::Pings).map_err(Error::call(format!("Cannot ping {to}")));
            }
            Request::TransferReceive { local } => {
                return Ok(Reply::Count { count: stream::receive(local)? });
            }
            Request::TransferSend { peer, bytes } => stream::send(peer, bytes)?,
            Request::KernelLog => {
                let log = match &mut self.log {
                    Some(log) => log,
                    none => none.insert(KernelLog::open()?),
                };
                return Ok(Reply::Text { text: log.read_new()? });
            }
            Request::Run { program, args, until, limit_ms } => {
                let limit = Duration::from_millis(limit_ms);
                return Ok(Reply::Ran(program::run(&program, &args, until.as_ref(), limit)?));
            }
            Request::SendFrame { name, frame } => packet::send(&name, &frame)?,
            Request::NapiCheck { seed, steps } => {
                return Ok(Reply::NapiCheck(napi::check(seed, steps)?));
            }
            Request::Snapshot => snapshot::create()?,
            Request::Shell { rows, columns } => {
                if !self.shell {
                    shell::start()?;
                    self.shell = true;
                }
                shell::resize(rows, columns)?;
            }
            Request::Reboot => {}
            Request::PowerOff => {
                // Their counts interest nobody any more.
                let _ = self.receiver.take().map(Receiver::stop);
                let _ = self.rpc.take().map(RpcServer::stop);
            }
        }
        Ok(Reply::Done)
    }
}
