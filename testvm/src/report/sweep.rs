// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A sweep: trials all over the offsets of straggler and interrupt, and how likely a loss is where.

use serde::Serialize;
use tsnic_protocol::{NaturalReport, Outcome, Trial};

use crate::scenario::plan::Mode;

/// The grid's cells: how many and how wide, microseconds.
const STRAGGLER_CELLS: u32 = 12;
const STRAGGLER_US: u32 = 100;
const INTERRUPT_CELLS: u32 = 5;
const INTERRUPT_US: u32 = 80;

/// Standard deviations of a 95 % interval.
const Z: f64 = 1.96;

/// Where straggler and interrupt are placed: uniform between these, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Aim {
    /// The straggler, from the burst.
    pub straggler_us: (u32, u32),
    /// The interrupt, from the straggler.
    pub interrupt_us: (u32, u32),
}

impl Aim {
    /// All over the grid.
    pub const SWEEP: Self = Self {
        straggler_us: (0, STRAGGLER_CELLS * STRAGGLER_US),
        interrupt_us: (0, INTERRUPT_CELLS * INTERRUPT_US),
    };
}

/// The trials whose offsets, as they came about, are in one cell of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The cell.
    pub aim: Aim,
    /// Conclusive trials in it.
    pub trials: u32,
    /// Of these: the straggler was lost, or lost and rescued.
    pub lost: u32,
}

/// A sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// How the interrupt took the NAPI.
    pub mode: Mode,
    /// Virtual CPUs of the guest.
    pub vcpus: usize,
    /// Frames that GRO gathers before it hands them to the stack (`net.core.gro_normal_batch`).
    pub batch: u32,
    /// Trials run.
    pub trials: u32,
    /// The grid, straggler by straggler. Trials that were late, as on a busy host, are in no cell.
    pub cells: Vec<Cell>,
    aim: Aim,
}

impl Sweep {
    /// Counts the trials of a sweep.
    #[must_use]
    pub fn new(mode: Mode, vcpus: usize, batch: u32, report: &NaturalReport) -> Self {
        let mut cells: Vec<Cell> = (0..STRAGGLER_CELLS)
            .flat_map(|straggler| (0..INTERRUPT_CELLS).map(move |interrupt| (straggler, interrupt)))
            .map(|(straggler, interrupt)| {
                let range = |n, width| (n * width, (n + 1) * width);
                let aim = Aim {
                    straggler_us: range(straggler, STRAGGLER_US),
                    interrupt_us: range(interrupt, INTERRUPT_US),
                };
                Cell { aim, trials: 0, lost: 0 }
            })
            .collect();
        for trial in &report.trials {
            let lost = match trial.outcome {
                Outcome::Lost | Outcome::Rescued => 1,
                Outcome::Delivered => 0,
                Outcome::Inconclusive => continue,
            };
            if let Some(cell) = index(trial).and_then(|index| cells.get_mut(index)) {
                cell.trials += 1;
                cell.lost += lost;
            }
        }
        let aim = aim(&cells, &report.trials);
        let trials = u32::try_from(report.trials.len()).unwrap_or(u32::MAX);
        Self { mode, vcpus, batch, trials, cells, aim }
    }

    /// Where a loss is most likely.
    #[must_use]
    pub fn aim(&self) -> Aim {
        self.aim
    }

    /// The grid, row by row: one offset of the straggler each.
    pub fn rows(&self) -> impl Iterator<Item = &[Cell]> {
        self.cells.chunks(INTERRUPT_CELLS as usize)
    }
}

/// The cell of the grid that a trial belongs to. Without an interrupt of its own it has none.
fn index(trial: &Trial) -> Option<usize> {
    let of = |ns: Option<u64>, width: u32, cells: u32| {
        let cell = ns? / 1_000 / u64::from(width);
        (cell < u64::from(cells)).then_some(cell)
    };
    let straggler = of(trial.straggler_ns, STRAGGLER_US, STRAGGLER_CELLS)?;
    let interrupt = of(trial.interrupt_ns, INTERRUPT_US, INTERRUPT_CELLS)?;
    usize::try_from(straggler * u64::from(INTERRUPT_CELLS) + interrupt).ok()
}

/// The cell that surely loses most, its neighbours counted with it, for a cell has few trials. When
/// none has lost anything: the middle of the window that was seen, with the interrupt at once. When
/// none was seen: all over the grid.
fn aim(cells: &[Cell], trials: &[Trial]) -> Aim {
    let low = |cell: &Cell| {
        let near = cells.iter().filter(|other| touches(cell.aim, other.aim));
        let (trials, lost) =
            near.fold((0, 0), |(trials, lost), it| (trials + it.trials, lost + it.lost));
        wilson(lost, trials).map_or(0.0, |(low, _)| low)
    };
    let best = cells.iter().filter(|cell| cell.lost > 0);
    if let Some(best) = best.max_by(|one, other| low(one).total_cmp(&low(other))) {
        return best.aim;
    }
    let window = |end: fn(&Trial) -> Option<u64>| {
        let mut us: Vec<u64> = trials.iter().filter_map(end).map(|ns| ns / 1_000).collect();
        us.sort_unstable();
        us.get(us.len() / 2).and_then(|us| u32::try_from(*us).ok())
    };
    let from = window(|trial| trial.window.map(|window| window.from_ns));
    let to = window(|trial| trial.window.map(|window| window.to_ns));
    match from.zip(to) {
        Some((from, to)) if from <= to => Aim { straggler_us: (from, to), interrupt_us: (0, 0) },
        _ => Aim::SWEEP,
    }
}

/// The cells have an edge or a corner in common, or are the same.
fn touches(one: Aim, other: Aim) -> bool {
    let near = |(from, to): (u32, u32), (start, end): (u32, u32)| from <= end && start <= to;
    near(one.straggler_us, other.straggler_us) && near(one.interrupt_us, other.interrupt_us)
}

/// The probability of `lost` of `trials`, between 0 and 1: Wilson's interval for 95 %. `None`
/// without trials.
#[must_use]
pub fn wilson(lost: u32, trials: u32) -> Option<(f64, f64)> {
    if trials == 0 {
        return None;
    }
    let (n, p) = (f64::from(trials), f64::from(lost) / f64::from(trials));
    let scale = 1.0 + Z * Z / n;
    let middle = (p + Z * Z / (2.0 * n)) / scale;
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    Some(((middle - half).max(0.0), (middle + half).min(1.0)))
}

#[cfg(test)]
mod tests {
    use tsnic_protocol::{Offsets, Window};

    use super::*;

    fn trial(straggler_us: u64, interrupt_us: u64, outcome: Outcome) -> Trial {
        Trial {
            offsets: Offsets { burst_us: 0, straggler_us: 0, interrupt_us: 0 },
            outcome,
            reason: None,
            straggler_ns: Some(straggler_us * 1_000),
            interrupt_ns: Some(interrupt_us * 1_000),
            handled_ns: None,
            owned: false,
            window: None,
            delivered_ns: None,
            stuck_ns: None,
        }
    }

    fn sweep(trials: Vec<Trial>) -> Sweep {
        let report = NaturalReport { trials, ..NaturalReport::default() };
        Sweep::new(Mode::V4_10, 2, 64, &report)
    }

    #[test]
    fn the_interval_is_that_of_the_books() {
        let close = |(low, high): (f64, f64), (a, b): (f64, f64)| {
            (low - a).abs() < 0.000_5 && (high - b).abs() < 0.000_5
        };
        assert!(close(wilson(0, 10).unwrap(), (0.0, 0.278)));
        assert!(close(wilson(10, 10).unwrap(), (0.722, 1.0)));
        assert!(close(wilson(15, 50).unwrap(), (0.191, 0.438)));
        assert!(close(wilson(0, 10_000).unwrap(), (0.0, 0.000_4)));
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn a_trial_is_where_its_packets_were_not_where_they_were_meant_to_be() {
        let late = trial(0, 500, Outcome::Lost);
        let unarmed = Trial { interrupt_ns: None, ..trial(150, 0, Outcome::Delivered) };
        let sweep = sweep(vec![
            trial(199, 80, Outcome::Lost),
            trial(100, 159, Outcome::Rescued),
            trial(100, 100, Outcome::Delivered),
            trial(100, 100, Outcome::Inconclusive),
            trial(1_200, 0, Outcome::Delivered),
            late,
            unarmed,
        ]);
        let hit: Vec<_> = sweep.cells.iter().filter(|cell| cell.trials > 0).collect();
        let aim = Aim { straggler_us: (100, 200), interrupt_us: (80, 160) };
        assert_eq!(hit, [&Cell { aim, trials: 3, lost: 2 }]);
        assert_eq!(sweep.trials, 7);
        assert_eq!(sweep.rows().count(), 12);
    }

    #[test]
    fn the_aim_is_where_losses_are_sure_not_where_few_trials_were_lucky() {
        let many = (0..20).map(|n| {
            let outcome = if n < 15 { Outcome::Lost } else { Outcome::Delivered };
            trial(450, 10, outcome)
        });
        let sweep = sweep(many.chain([trial(900, 10, Outcome::Lost)]).collect());
        assert_eq!(sweep.aim(), Aim { straggler_us: (400, 500), interrupt_us: (0, 80) });
    }

    #[test]
    fn a_cell_is_judged_with_its_neighbours() {
        let run = |straggler_us, interrupt_us, lost| {
            (0..10).map(move |n| {
                let outcome = if n < lost { Outcome::Lost } else { Outcome::Delivered };
                trial(straggler_us, interrupt_us, outcome)
            })
        };
        let lucky = run(850, 350, 9).chain(run(750, 350, 0)).chain(run(950, 350, 0));
        let broad = run(350, 10, 7).chain(run(450, 10, 8)).chain(run(550, 10, 7));
        let sweep = sweep(lucky.chain(broad).collect());
        assert_eq!(sweep.aim(), Aim { straggler_us: (400, 500), interrupt_us: (0, 80) });
    }

    #[test]
    fn without_losses_the_aim_is_the_window_and_without_one_the_grid() {
        let window = |from: u64, to: u64| Some(Window { from_ns: from * 1_000, to_ns: to * 1_000 });
        let seen = |from, to| Trial { window: window(from, to), ..trial(0, 0, Outcome::Delivered) };
        let aim = sweep(vec![seen(400, 450), seen(420, 480), seen(900, 990)]).aim();
        assert_eq!(aim, Aim { straggler_us: (420, 480), interrupt_us: (0, 0) });
        assert_eq!(sweep(vec![trial(0, 0, Outcome::Delivered)]).aim(), Aim::SWEEP);
    }
}
