//! The names of parameters that an action takes. Others are rejected by name: a typo would be a filter that filters nothing, or a price
//! that is not charged.

use crate::error::Rejection;
use crate::http::typed;

/// Every action may be named in its call, also where the path names it.
const ACTION: &str = "action";
/// The name of a token.
pub(super) const TOKEN: &str = "token";
/// How alike a name has to be to be thought to be meant, from 0 to 1.
const ALIKE: f64 = 0.8;
/// Names that are longer, or hold anything but these characters, may be a key or a whole body in the wrong place, and are not repeated. No
/// name that is taken is longer; tokens and keys are.
const LONGEST_SHOWN: usize = 30;

/// What an action takes.
#[derive(Debug, Clone, Copy)]
pub struct Takes {
    /// Whether it reads a token.
    pub token: bool,
    /// The names that are fields of its types, see [`typed`]. One that ends in `_*` stands for a name per currency. Each alias of one is
    /// taken too.
    pub typed: &'static [fn() -> &'static [String]],
    /// What published clients send without need: it has no meaning here and is not refused.
    pub unused: &'static [&'static str],
}

impl Takes {
    /// Every name that it may read, but for `action`.
    #[must_use]
    pub fn all(&self) -> Vec<&'static str> {
        let mut all: Vec<&str> = self.token.then_some(TOKEN).into_iter().collect();
        let typed: Vec<&str> = self
            .typed
            .iter()
            .flat_map(|names| names())
            .map(String::as_str)
            .collect();
        let aliases = typed::ALIASES.iter().map(|(alias, _)| *alias);
        all.extend(aliases.filter(|alias| typed::alias_of(alias, &typed).is_some()));
        all.extend(typed);
        all
    }

    /// Whether an action may read a name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        name == ACTION || is_among(name, &self.all())
    }

    /// Checks that each name is one of these.
    ///
    /// # Errors
    /// 400 for one that is not, with the nearest name there is.
    pub fn check<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<(), Rejection> {
        let all = self.all();
        let unknown = names
            .map(String::as_str)
            .filter(|name| *name != ACTION && !is_among(name, &all) && !self.unused.contains(name))
            .min();
        match unknown {
            None => Ok(()),
            Some(name) => Err(Rejection::unknown(
                is_shown(name).then_some(name),
                nearest(name, &all).as_deref(),
            )),
        }
    }
}

fn is_among(name: &str, all: &[&str]) -> bool {
    all.iter().any(|taken| match taken.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => *taken == name,
    })
}

/// The name that was meant, perhaps.
fn nearest(unknown: &str, all: &[&str]) -> Option<String> {
    if !is_shown(unknown) {
        return None;
    }
    let unknown = unknown.to_ascii_lowercase();
    let currency = unknown
        .rsplit_once('_')
        .map(|(_, last)| last)
        .filter(|last| last.len() == 3)
        .unwrap_or("eur");
    all.iter()
        .map(|taken| match taken.strip_suffix('*') {
            Some(prefix) => format!("{prefix}{currency}"),
            None => (*taken).to_owned(),
        })
        .map(|taken| (strsim::jaro_winkler(&unknown, &taken), taken))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, taken)| taken)
}

fn is_shown(name: &str) -> bool {
    (1..=LONGEST_SHOWN).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKES: Takes = Takes {
        token: true,
        typed: &[|| {
            static NAMES: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
                let names = "status when max_keys bucket_name monthly_* storage_overage_price_*";
                names.split(' ').map(str::to_owned).collect()
            });
            &NAMES
        }],
        unused: &["stage"],
    };

    fn refused(name: &str) -> String {
        let text = TAKES.check([name.to_owned()].iter()).unwrap_err().text;
        text.strip_prefix("unknown parameter")
            .expect("it says so")
            .to_owned()
    }

    #[test]
    fn what_is_taken_or_known_to_be_sent_passes() {
        let names = [
            "token",
            "action",
            "bucket",
            "monthly_eur",
            "monthly_",
            "stage",
            "max_keys",
            "limit",
        ];
        assert_eq!(TAKES.check(names.map(str::to_owned).iter()), Ok(()));
        assert_eq!(TAKES.check([].iter()), Ok(()));
    }

    #[test]
    fn a_slip_is_named_with_what_was_meant() {
        for (slip, meant) in [
            ("stauts", "status"),
            ("state", "status"),
            ("Status", "status"),
            ("whn", "when"),
            ("bucketname", "bucket_name"),
            ("storage_overage_eur", "storage_overage_price_eur"),
            ("storage_overage_price", "storage_overage_price_eur"),
            ("montly_usd", "monthly_usd"),
            ("tokn", "token"),
        ] {
            assert_eq!(refused(slip), format!(": {slip} (did you mean {meant}?)"));
        }
    }

    #[test]
    fn what_is_like_nothing_is_only_named() {
        for name in ["x", "colour", "a-b.c", "99"] {
            assert_eq!(refused(name), format!(": {name}"));
        }
    }

    #[test]
    fn what_may_be_a_secret_or_no_name_at_all_is_not_repeated() {
        for name in [
            "",
            "0123456789abcdef0123456789abcdef",
            "{\"token\":\"x\"}",
            "a b",
            "a\nb",
            "\u{202e}",
            "é",
        ] {
            assert_eq!(refused(name), ", and not one that can be shown");
        }
    }

    #[test]
    fn every_name_that_is_taken_can_be_shown() {
        assert!(TAKES.all().iter().all(|name| name.len() <= LONGEST_SHOWN));
    }
}
