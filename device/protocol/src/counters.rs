// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The counters as they are said on the control socket: each by its name, all of them always.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

macro_rules! define {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters of the device, from the start of the backend; none ever goes back. They are
        /// described in `docs/counters.md`.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl From<&tsnic_core::counters::Counters> for Counters {
            fn from(counters: &tsnic_core::counters::Counters) -> Self {
                Self { $($name: counters.$name,)+ }
            }
        }

        impl Counters {
            /// By name.
            #[must_use]
            pub fn by_name(&self) -> BTreeMap<&'static str, u64> {
                BTreeMap::from([$((stringify!($name), self.$name),)+])
            }

            /// What each counts, by name.
            #[must_use]
            pub fn descriptions() -> BTreeMap<&'static str, &'static str> {
                BTreeMap::from([$((stringify!($name), concat!($($doc,)+).trim_ascii()),)+])
            }
        }
    };
}

tsnic_core::for_each_counter!(define);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_in_the_documentation() {
        let text = include_str!("../../../docs/counters.md");
        // The driver has some of the same name.
        let (text, _) = text.split_once("## Of the driver").unwrap();
        for name in Counters::default().by_name().keys() {
            assert!(text.contains(&format!("`{name}`")), "{name} is not in docs/counters.md");
        }
    }

    #[test]
    fn a_counter_that_is_missing_or_unknown_is_an_error() {
        let all = serde_json::to_value(Counters::default()).unwrap();
        let mut missing = all.clone();
        missing.as_object_mut().unwrap().remove("lost");
        let mut unknown = all.clone();
        unknown.as_object_mut().unwrap().insert("last".into(), 0.into());
        assert!(serde_json::from_value::<Counters>(all).is_ok());
        for (value, name) in [(missing, "`lost`"), (unknown, "`last`")] {
            let error = serde_json::from_value::<Counters>(value).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
