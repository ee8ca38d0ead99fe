// SPDX-License-Identifier: GPL-2.0-only
//! `docs/napi-ablation.md` is what the models say today.

use napi_model::table::{markdown, parts, replace};
use napi_model::verdict::Breach;

#[test]
fn the_page_is_what_the_models_say() {
    let page = include_str!("../../../../docs/napi-ablation.md");
    let parts = parts();
    for row in parts.iter().flat_map(|part| &part.rows) {
        row.outcome.assert_complete();
        // A device that does not judge itself rightly would make every experiment's verdict worthless.
        assert!(!row.outcome.tally.breaches.contains(&Breach::DeviceWrong), "{}", row.outcome.report());
    }
    let now = replace(page, &markdown(&parts)).expect("the page has its marker");
    for (line, (page, now)) in (1..).zip(page.lines().zip(now.lines())) {
        assert_eq!(
            page, now,
            "line {line} of docs/napi-ablation.md: `cargo run --release -p napi-model -- table` writes it anew"
        );
    }
    assert_eq!(page, now);
}
