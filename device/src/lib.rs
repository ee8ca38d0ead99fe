// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tsnic device.

pub mod control;
