//! The `[loop]` table: when a run begins without anyone asking.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// When the loop trains, waits or stops. Each turn of the loop is one run of the recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Unattended {
    /// Steps with a verified outcome since the last turn, before the next one.
    pub min_new: u64,
    /// Once the reward has fallen or the requests have drifted, so many since then are enough.
    pub min_new_when_falling: u64,
    /// From the end of a turn to the begin of the next: `6h`, `90s`.
    pub min_interval: Pause,
    /// When no step begins that costs something: `["08:00-18:30"]`, in the time of `utc_offset`.
    pub quiet_hours: Vec<QuietHours>,
    /// East of Greenwich: `"+02:00"`.
    pub utc_offset: UtcOffset,
    /// Budget: minutes of training within any 24 hours, and turns within any 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_minutes_per_day: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns_per_day: Option<u64>,
    /// Stop after this many turns for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u64>,
    /// Stop and ask a person after so many turns in a row whose candidate did not make it.
    pub max_failures: u64,
    /// The reward of what serves has fallen when it is certainly lower by more than this.
    pub fall: f64,
    /// Requests have drifted when the share of words that were not trained on is certainly higher
    /// by more than this.
    pub drift: f64,
    /// How often, over the whole life of one version, either alarm may be false.
    pub alpha: f64,
    /// Judged units of one look at the present.
    pub window: u64,
    /// Steps that wait until a person has approved them.
    pub approve: BTreeSet<ApprovalStep>,
    /// How far training steps back behind serving on the processor, from 0 to 19.
    pub nice: u8,
}

impl Default for Unattended {
    fn default() -> Self {
        Self {
            min_new: 64,
            min_new_when_falling: 32,
            min_interval: Pause::from_seconds(3600),
            quiet_hours: Vec::new(),
            utc_offset: UtcOffset::default(),
            train_minutes_per_day: None,
            turns_per_day: None,
            max_turns: None,
            max_failures: 3,
            fall: 0.05,
            drift: 0.10,
            alpha: 0.01,
            window: 200,
            approve: BTreeSet::new(),
            nice: 10,
        }
    }
}

impl Unattended {
    /// The first key whose value cannot be meant, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let within = |key, value: f64, low: f64, high: f64| {
            let fits = value >= low && value <= high;
            let why = || format!("is {value}, which is not between {low} and {high}");
            if fits { Ok(()) } else { Err((key, why())) }
        };
        within("min_new", self.min_new as f64, 1.0, 1e9)?;
        if self.min_new_when_falling > self.min_new || self.min_new_when_falling == 0 {
            let why = format!("must lie between 1 and min_new, which is {}", self.min_new);
            return Err(("min_new_when_falling", why));
        }
        for (key, value) in [
            ("train_minutes_per_day", self.train_minutes_per_day),
            ("turns_per_day", self.turns_per_day),
            ("max_turns", self.max_turns),
            ("max_failures", Some(self.max_failures)),
        ] {
            within(key, value.unwrap_or(1) as f64, 1.0, 1e9)?;
        }
        within("fall", self.fall, 0.0, 1.0)?;
        within("drift", self.drift, 0.0, 1.0)?;
        within("alpha", self.alpha, 1e-9, 0.2)?;
        within("window", self.window as f64, 10.0, 1e6)?;
        within("nice", f64::from(self.nice), 0.0, 19.0)?;
        let day: u32 = self.quiet_hours.iter().map(|hours| hours.minutes()).sum();
        if day >= 24 * 60 {
            return Err(("quiet_hours", "leave no minute of the day to train in".to_owned()));
        }
        Ok(())
    }

    /// Whether a moment lies in the quiet hours: if so, how many milliseconds they still last.
    pub fn quiet_for(&self, unix_ms: i64) -> Option<i64> {
        const DAY: i64 = 24 * 60 * 60_000;
        let of_day = |ms: i64| (ms + i64::from(self.utc_offset.0) * 60_000).rem_euclid(DAY);
        let begun = of_day(unix_ms);
        let mut at = begun;
        let mut waited = 0;
        // Hours that follow one another are one silence; each pass leaves one of them.
        for _ in 0..=self.quiet_hours.len() {
            let holding = self.quiet_hours.iter().find_map(|hours| hours.left(at));
            let Some(left) = holding else { break };
            waited += left;
            at = (at + left).rem_euclid(DAY);
        }
        (waited > 0).then_some(waited)
    }
}

/// A length of time: `30d`, `12h`, `45m` or `90s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pause {
    seconds: u64,
}

impl Pause {
    pub fn from_seconds(seconds: u64) -> Self {
        Self { seconds }
    }

    pub fn as_ms(self) -> i64 {
        i64::try_from(self.seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
    }
}

impl FromStr for Pause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a time: write a number with d, h, m or s, as 6h");
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[number.len()..] {
            "d" => 86_400,
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            _ => return Err(wrong()),
        };
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = number.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
        number.checked_mul(unit).map(Self::from_seconds).ok_or_else(wrong)
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
        let whole =
            |(length, _): &(u64, char)| self.seconds > 0 && self.seconds.is_multiple_of(*length);
        let (length, unit) = units.into_iter().find(whole).unwrap_or((1, 's'));
        write!(f, "{}{unit}", self.seconds / length)
    }
}

/// From a minute of the day up to another; past midnight when the second is the earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QuietHours {
    from: u16,
    to: u16,
}

impl QuietHours {
    fn minutes(self) -> u32 {
        (u32::from(self.to) + 1440 - u32::from(self.from)) % 1440
    }

    /// Milliseconds until the end, for a moment of the day within.
    fn left(self, ms_of_day: i64) -> Option<i64> {
        const MINUTE: i64 = 60_000;
        let since = (ms_of_day - i64::from(self.from) * MINUTE).rem_euclid(1440 * MINUTE);
        let length = i64::from(self.minutes()) * MINUTE;
        (since < length).then_some(length - since)
    }
}

impl FromStr for QuietHours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} are no hours: write as \"22:00-06:30\"");
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let hours = Self {
            from: minute_of_day(from).ok_or_else(wrong)?,
            to: minute_of_day(to).ok_or_else(wrong)?,
        };
        if hours.from == hours.to {
            return Err(format!("{text:?} begin when they end: leave them away, or say which"));
        }
        Ok(hours)
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// Minutes east of Greenwich.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UtcOffset(i16);

impl FromStr for UtcOffset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no offset from UTC: write as \"+02:00\"");
        let sign = match text.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(wrong()),
        };
        let minutes = minute_of_day(&text[1..]).filter(|minutes| *minutes <= 14 * 60);
        let minutes = minutes.and_then(|minutes| i16::try_from(minutes).ok());
        minutes.map(|minutes| Self(sign * minutes)).ok_or_else(wrong)
    }
}

impl fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        let minutes = self.0.unsigned_abs();
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str, below: u16| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|number| digits && *number < below)
    };
    Some(two(hour, 24)? * 60 + two(minute, 60)?)
}

/// A step of a run that a person can keep for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStep {
    Dataset,
    Train,
    Register,
    Evaluate,
    Release,
}

impl ApprovalStep {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Train => "train",
            Self::Register => "register",
            Self::Evaluate => "evaluate",
            Self::Release => "release",
        }
    }
}

impl fmt::Display for ApprovalStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Types that are parsed once from their text, and print as they were written.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

as_text!(Pause, QuietHours, UtcOffset);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn settings(text: &str) -> Unattended {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn texts_come_back_as_they_were_written() {
        for text in ["30d", "12h", "45m", "90s", "0s"] {
            assert_eq!(text.parse::<Pause>().unwrap().to_string(), text);
        }
        assert_eq!("120m".parse::<Pause>().unwrap().to_string(), "2h");
        for text in ["22:00-06:30", "00:00-23:59"] {
            assert_eq!(text.parse::<QuietHours>().unwrap().to_string(), text);
        }
        for text in ["+02:00", "-09:30", "+00:00"] {
            assert_eq!(text.parse::<UtcOffset>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in ["", "h", "6", "-6h", "6 h", "6w", "99999999999999999999d", "6hh", "+6h"] {
            assert!(wrong.parse::<Pause>().is_err(), "{wrong}");
        }
        for wrong in ["8-18", "08:00", "24:00-06:00", "08:60-09:00", "08:00-08:00", "8:00-9:00"] {
            assert!(wrong.parse::<QuietHours>().is_err(), "{wrong}");
        }
        for wrong in ["", "02:00", "+2:00", "+15:00", "+é"] {
            assert!(wrong.parse::<UtcOffset>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn quiet_hours_end_when_they_say_also_past_midnight_and_in_other_zones() {
        let day = settings("quiet_hours = [\"08:00-18:00\"]");
        assert_eq!(day.quiet_for(7 * HOUR), None);
        assert_eq!(day.quiet_for(8 * HOUR), Some(10 * HOUR));
        assert_eq!(day.quiet_for(18 * HOUR), None, "the end is not within");
        let night = settings("quiet_hours = [\"22:00-06:00\"]");
        assert_eq!(night.quiet_for(23 * HOUR), Some(7 * HOUR));
        assert_eq!(night.quiet_for(24 * HOUR + 5 * HOUR), Some(HOUR));
        let east = settings("quiet_hours = [\"08:00-18:00\"]\nutc_offset = \"+02:00\"");
        assert_eq!(east.quiet_for(6 * HOUR), Some(10 * HOUR));
        let west = settings("quiet_hours = [\"08:00-18:00\"]\nutc_offset = \"-05:00\"");
        assert_eq!(west.quiet_for(12 * HOUR), None);
        assert_eq!(west.quiet_for(13 * HOUR), Some(10 * HOUR));
        let chained = settings("quiet_hours = [\"22:00-02:00\", \"02:00-04:00\"]");
        assert_eq!(chained.quiet_for(23 * HOUR), Some(5 * HOUR));
        assert_eq!(day.quiet_for(-HOUR), None, "before 1970 is 23:00");
    }
}
