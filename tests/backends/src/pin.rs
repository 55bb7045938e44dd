//! Pins: a spec that is made from a version.
//!
//! An expression `x.x` says how many parts of the version count. As a lower bound it cuts the version off after them,
//! as an upper bound it counts the last of them up and goes below all prereleases: `x.x` on 3.11.5 is
//! `>=3.11,<3.12.0a0`. A bound that is missing is none.

use serde_json::{Value, json};

use crate::json::Reader;
use crate::protocol::RpcError;

/// The binary spec that the pin means for a package of this version and build.
pub(crate) fn resolve(pin: &Reader<'_>, version: &str, build: &str) -> Result<Value, RpcError> {
    if pin.boolean("exact")?.unwrap_or(false) {
        return Ok(json!({ "version": format!("=={version}"), "build": build }));
    }
    let mut parts = Vec::new();
    match bound(pin, "lowerBound")? {
        Some(Bound::Parts(count)) => parts.push(format!(">={}", lower(version, count))),
        Some(Bound::Version(bound)) => parts.push(format!(">={bound}")),
        None => {}
    }
    match bound(pin, "upperBound")? {
        Some(Bound::Parts(count)) => parts.push(format!("<{}", upper(version, count)?)),
        Some(Bound::Version(bound)) => parts.push(format!("<{bound}")),
        None => {}
    }
    let version = if parts.is_empty() { "*".to_owned() } else { parts.join(",") };
    match pin.string("build")? {
        Some(build) => Ok(json!({ "version": version, "build": build })),
        None => Ok(json!({ "version": version })),
    }
}

enum Bound<'a> {
    /// So many parts of the version.
    Parts(usize),
    Version(&'a str),
}

fn bound<'a>(pin: &Reader<'a>, key: &str) -> Result<Option<Bound<'a>>, RpcError> {
    let bound = pin.reader(key)?;
    if let Some(version) = bound.string("version")? {
        return Ok(Some(Bound::Version(version)));
    }
    let Some(expression) = bound.string("expression")? else { return Ok(None) };
    if expression.split('.').all(|part| part == "x") {
        Ok(Some(Bound::Parts(expression.split('.').count())))
    } else {
        Err(RpcError::backend("pin", format!("'{expression}' is no expression of a pin")))
    }
}

/// The epoch with its `!`, and the rest without the local part.
fn split(version: &str) -> (&str, &str) {
    let public = version.split_once('+').map_or(version, |(public, _)| public);
    match public.find('!') {
        Some(end) => public.split_at(end + 1),
        None => ("", public),
    }
}

fn lower(version: &str, count: usize) -> String {
    let (epoch, public) = split(version);
    if public.split('.').count() <= count {
        return version.to_owned();
    }
    let kept: Vec<&str> = public.split('.').take(count).collect();
    format!("{epoch}{}", kept.join("."))
}

fn upper(version: &str, count: usize) -> Result<String, RpcError> {
    let (epoch, public) = split(version);
    let mut parts: Vec<String> =
        public.split('.').chain(std::iter::repeat("0")).take(count).map(str::to_owned).collect();
    if let Some(last) = parts.last_mut() {
        let digits = last.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(last.len());
        let next = last[..digits].parse::<u64>().ok().and_then(|number| number.checked_add(1));
        let next = next.ok_or_else(|| RpcError::backend("pin", format!("cannot count up '{last}' in '{version}'")))?;
        *last = next.to_string();
    }
    Ok(format!("{epoch}{}.0a0", parts.join(".")))
}

#[cfg(test)]
mod tests {
    use super::{lower, upper};

    #[test]
    fn a_lower_bound_cuts_the_version_off() {
        assert_eq!(lower("3.11.5", 2), "3.11");
        assert_eq!(lower("0.1.0", 6), "0.1.0");
        assert_eq!(lower("1!2.3+local", 1), "1!2");
    }

    #[test]
    fn an_upper_bound_counts_the_last_part_up() {
        assert_eq!(upper("3.11.5", 2).unwrap(), "3.12.0a0");
        assert_eq!(upper("0.1.0", 1).unwrap(), "1.0a0");
        assert_eq!(upper("1.2", 3).unwrap(), "1.2.1.0a0");
        assert_eq!(upper("1!2.3b1", 2).unwrap(), "1!2.4.0a0");
        assert!(upper("abc", 1).is_err());
    }
}
