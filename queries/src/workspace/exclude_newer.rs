//! `exclude-newer`: which packages are too new to be taken.
//!
//! A cutoff is a moment or a distance from the moment of the solve. Distances are kept as such: what "seven days ago"
//! means is decided by whoever knows the time, which nothing in this module asks for.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, civil, tz::TimeZone};
use rattler_conda_types::{PackageName, ParseMatchSpecError, RepoDataRecord};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    location::{Location, WorkspaceRoot},
    requirement::{Requirement, matches_record},
};

/// The moment after which a package is too new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Cutoff {
    /// A moment, in milliseconds since 1970.
    At(i64),
    /// So many seconds before the solve.
    Before(u64),
}

/// A text that is neither a date nor a timestamp nor a duration.
#[derive(Debug, Clone, Error)]
#[error("neither a date like `2026-03-30`, nor a timestamp like `2026-03-30T12:00:00Z`, nor a duration like `7d`")]
#[non_exhaustive]
pub struct NotACutoff;

impl Cutoff {
    /// The cutoff in milliseconds since 1970, if the solve happens at `now`.
    pub fn at(self, now: i64) -> i64 {
        match self {
            Self::At(moment) => moment,
            Self::Before(seconds) => {
                let milliseconds = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
                now.saturating_sub(milliseconds)
            }
        }
    }

    /// Whether the cutoff moves with the time of the solve.
    pub fn is_relative(self) -> bool {
        matches!(self, Self::Before(_))
    }
}

impl FromStr for Cutoff {
    type Err = NotACutoff;

    /// A date means the end of that day in UTC: packages of the day itself are taken.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == "2026-03-30".len()
            && let Ok(date) = text.parse::<civil::Date>()
        {
            let next = date.tomorrow().map_err(|_| NotACutoff)?;
            let midnight = next.to_zoned(TimeZone::UTC).map_err(|_| NotACutoff)?;
            return Ok(Self::At(midnight.timestamp().as_millisecond()));
        }
        if let Ok(moment) = text.parse::<Timestamp>() {
            return Ok(Self::At(moment.as_millisecond()));
        }
        humantime::parse_duration(text).map(|duration| Self::Before(duration.as_secs())).map_err(|_| NotACutoff)
    }
}

impl fmt::Display for Cutoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(moment) => match Timestamp::from_millisecond(*moment) {
                Ok(moment) => moment.fmt(f),
                Err(_) => write!(f, "{moment} ms"),
            },
            Self::Before(seconds) => humantime::format_duration(Duration::from_secs(*seconds)).fmt(f),
        }
    }
}

impl From<Cutoff> for String {
    fn from(cutoff: Cutoff) -> Self {
        cutoff.to_string()
    }
}

impl TryFrom<String> for Cutoff {
    type Error = NotACutoff;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// All that decides whether a package is too new. What is more special wins: a package, then a channel, then the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExcludeNewer {
    /// The cutoff for everything not named below. Without one, only what is named below is limited.
    pub cutoff: Option<Cutoff>,
    /// Cutoffs of single packages, sorted by name.
    pub packages: Vec<(String, Cutoff)>,
    /// Cutoffs of single channels, in the order of the channels.
    pub channels: Vec<(Location, Cutoff)>,
    /// Records that match one of these are never too new.
    pub exemptions: Vec<Requirement>,
}

impl ExcludeNewer {
    /// Whether nothing is ever too new.
    pub fn is_empty(&self) -> bool {
        self.cutoff.is_none() && self.packages.is_empty() && self.channels.is_empty()
    }

    /// Whether the answer depends on the time of the solve.
    pub fn is_relative(&self) -> bool {
        let mut cutoffs =
            self.cutoff.iter().chain(self.packages.iter().map(|(_, c)| c)).chain(self.channels.iter().map(|(_, c)| c));
        cutoffs.any(|cutoff| cutoff.is_relative())
    }

    /// The cutoff that holds for a record, in milliseconds since 1970. `None` if it can never be too new.
    pub(crate) fn cutoff_for(&self, record: &RepoDataRecord, root: &WorkspaceRoot, now: i64) -> Option<i64> {
        let exempt =
            |requirement: &Requirement| requirement.match_spec(root).is_ok_and(|spec| matches_record(&spec, record));
        if self.exemptions.iter().any(exempt) {
            return None;
        }
        let name = record.package_record.name.as_normalized();
        if let Some((_, cutoff)) = self.packages.iter().find(|(package, _)| package == name) {
            return Some(cutoff.at(now));
        }
        let of_channel = self.channels.iter().find(|(channel, _)| {
            let url = channel.directory_url(root);
            record
                .channel
                .as_deref()
                .is_some_and(|used| used.trim_end_matches('/') == url.as_str().trim_end_matches('/'))
        });
        of_channel.map(|(_, cutoff)| cutoff).or(self.cutoff.as_ref()).map(|cutoff| cutoff.at(now))
    }
}

impl ExcludeNewer {
    /// The same as the solver takes it, for a solve at `now`.
    ///
    /// The solver excludes what is not dated at all; a locked record that is not dated stays.
    ///
    /// # Errors
    ///
    /// Only if an exemption did not come from a manifest read here.
    pub fn for_solver(
        &self,
        root: &WorkspaceRoot,
        now: SystemTime,
    ) -> Result<rattler_solve::ExcludeNewer, ParseMatchSpecError> {
        let now = milliseconds(now);
        let moment = |cutoff: Cutoff| {
            Timestamp::from_millisecond(cutoff.at(now)).unwrap_or(match cutoff.at(now) {
                ..0 => Timestamp::MIN,
                _ => Timestamp::MAX,
            })
        };
        let mut exclude = rattler_solve::ExcludeNewer::from(self.cutoff.map_or(Timestamp::MAX, moment));
        for (channel, cutoff) in &self.channels {
            exclude = exclude.with_channel_cutoff(channel.directory_url(root), moment(*cutoff));
        }
        for (package, cutoff) in &self.packages {
            #[expect(deprecated, reason = "`[exclude-newer]` lowers the cutoff of a package, which has no other form")]
            {
                exclude = exclude.with_package_cutoff(PackageName::new_unchecked(package), moment(*cutoff));
            }
        }
        for exemption in &self.exemptions {
            // A spec from a manifest names one package and has no condition, which is all that is asked of it here.
            exclude = exclude.clone().with_exemption(exemption.match_spec(root)?).unwrap_or(exclude);
        }
        Ok(exclude)
    }
}

/// A moment in milliseconds since 1970.
pub(crate) fn milliseconds(moment: SystemTime) -> i64 {
    Timestamp::try_from(moment).map_or(i64::MAX, Timestamp::as_millisecond)
}

impl fmt::Display for ExcludeNewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cutoff {
            Some(cutoff) => cutoff.fmt(f)?,
            None => f.write_str("none")?,
        }
        for (package, cutoff) in &self.packages {
            write!(f, ", {package}: {cutoff}")?;
        }
        for (channel, cutoff) in &self.channels {
            write!(f, ", {channel}: {cutoff}")?;
        }
        for exemption in &self.exemptions {
            write!(f, ", not {exemption}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_the_end_of_its_day() {
        assert_eq!("2006-12-02".parse::<Cutoff>().unwrap(), "2006-12-03T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn timestamps_have_an_offset() {
        assert_eq!("2023-11-03T03:33:12+02:00".parse::<Cutoff>().unwrap(), "2023-11-03T01:33:12Z".parse().unwrap());
        assert!("2023-11-03T03:33:12".parse::<Cutoff>().is_err());
    }

    #[test]
    fn durations_stay_durations() {
        let week = "7d".parse::<Cutoff>().unwrap();
        assert_eq!(week, Cutoff::Before(7 * 24 * 3600));
        assert_eq!(week.at(1_000_000_000_000), 1_000_000_000_000 - 7 * 24 * 3_600_000);
        assert_eq!(Cutoff::Before(u64::MAX).at(0), -i64::MAX);
        assert_eq!("0d".parse::<Cutoff>().unwrap().at(5), 5);
    }

    #[test]
    fn text_form_reads_back() {
        for text in ["2006-12-02", "2023-11-03T01:33:12.5Z", "7d", "1h30m", "0s"] {
            let cutoff = text.parse::<Cutoff>().unwrap();
            assert_eq!(cutoff.to_string().parse::<Cutoff>().unwrap(), cutoff, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "yesterday", "2023-13-01", "9999-12-31", "-3d", "2023-11-03 nonsense"] {
            let parsed = text.parse::<Cutoff>();
            assert!(parsed.is_err(), "{text}: {parsed:?}");
        }
    }
}
