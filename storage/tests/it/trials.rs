//! How often something random is tried.

/// The number of trials: this many, times what `DOGE_TRIALS` says.
pub(crate) fn trials(usual: u64) -> u64 {
    let factor = std::env::var("DOGE_TRIALS").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1.0_f64);
    ((usual as f64 * factor) as u64).max(1)
}
