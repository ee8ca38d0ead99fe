// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device against a fake front end: a real Unix socket, real virtqueues in a memfd, no VM and
//! no root.

mod budget;
mod ctl;
mod generator;
mod hostile;
mod injection;
mod interrupts;
mod lifecycle;
mod link;
mod mailbox;
mod pairs;
mod plain;
mod program;
mod records;
mod reflect;
mod registration;
mod stalls;
mod support;
