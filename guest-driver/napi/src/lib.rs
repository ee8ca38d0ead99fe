// SPDX-License-Identifier: GPL-2.0-only
//! NAPI scheduling on the state word.
#![no_std]
