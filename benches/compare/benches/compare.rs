//! The comparison: all engines in turns, so that what else the machine does hits all of them, and the smallest time of
//! each, which was disturbed least. Each load checks its result.
//!
//! Words on the command line choose loads by their names. Lines that begin with `measured` are for programs: engine,
//! nanoseconds, load.

use std::time::Duration;

use doge_compare::{Load, on_doge, on_picante, on_salsa};

const ROUNDS: usize = 7;
/// An engine that has taken so long for one load has shown what it can.
const ENOUGH: Duration = Duration::from_secs(5);

type Measure = fn(Load) -> Option<Duration>;

const ENGINES: [(&str, Measure); 3] =
    [("salsa", on_salsa::measure), ("picante", on_picante::measure), ("doge", on_doge::measure)];

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    println!("| load | bare salsa | picante | doge | doge / salsa | doge / picante |");
    println!("|---|---|---|---|---|---|");
    for load in Load::ALL {
        let (name, each) = load.name();
        if !chosen.is_empty() && !chosen.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let mut best = [None::<Duration>; ENGINES.len()];
        let mut taken = [Duration::ZERO; ENGINES.len()];
        for _ in 0..ROUNDS {
            for ((best, taken), (_, measure)) in best.iter_mut().zip(&mut taken).zip(ENGINES) {
                if *taken > ENOUGH {
                    continue;
                }
                let time = measure(load);
                *taken += time.unwrap_or_default();
                *best = [*best, time].into_iter().flatten().min();
            }
        }
        let nanoseconds = best.map(|best| best.map(|time| time.as_nanos() as f64 / each as f64));
        let [salsa, picante, doge] = nanoseconds;
        let ratio = |to: Option<f64>| doge.zip(to).map_or("–".to_owned(), |(doge, to)| format!("{:.2}", doge / to));
        let [a, b, c] = nanoseconds.map(|time| time.map_or("–".to_owned(), readable));
        println!("| {name} | {a} | {b} | {c} | {} | {} |", ratio(salsa), ratio(picante));
        for ((engine, _), time) in ENGINES.iter().zip(nanoseconds) {
            if let Some(time) = time {
                println!("measured {engine} {time:.1} {name}");
            }
        }
    }
}

fn readable(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.2} µs", n / 1e3),
        n if n < 1e9 => format!("{:.2} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}
