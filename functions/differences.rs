//! Differences between two records that should be equal, figure by figure, for people to read.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// One figure that is stored otherwise than it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is a figure of, such as an invoice line or a day.
    pub of: String,
    /// Which figure; empty where one side lacks the whole.
    pub figure: String,
    /// As it is stored; null where it is not.
    pub stored: Value,
    /// As the segments make it; null where they do not.
    pub made: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            of,
            figure,
            stored,
            made,
        } = self;
        let figure = if figure.is_empty() {
            "all of it"
        } else {
            figure
        };
        write!(f, "{of}: {figure}: stored {stored}, recomputed {made}")
    }
}

/// The figures in which two things differ; none when they are the same.
pub(crate) fn differences<T: Serialize>(of: &str, stored: &T, made: &T) -> Vec<Difference> {
    let plain = |thing| serde_json::to_value(thing).unwrap_or_else(|e| e.to_string().into());
    let mut found = Vec::new();
    compare(of, "", &plain(stored), &plain(made), &mut found);
    found
}

fn compare(of: &str, figure: &str, stored: &Value, made: &Value, found: &mut Vec<Difference>) {
    if stored == made {
        return;
    }
    if let (Value::Object(stored), Value::Object(made)) = (stored, made) {
        let names = stored
            .keys()
            .chain(made.keys().filter(|name| !stored.contains_key(*name)));
        for name in names {
            let figure = match figure {
                "" => name.clone(),
                figure => format!("{figure}.{name}"),
            };
            let [stored, made] = [stored, made].map(|side| side.get(name).unwrap_or(&Value::Null));
            compare(of, &figure, stored, made, found);
        }
        return;
    }
    found.push(Difference {
        of: of.to_owned(),
        figure: figure.to_owned(),
        stored: stored.clone(),
        made: made.clone(),
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_told_by_its_path() {
        let stored = json!({ "a": 1, "b": { "c": 2, "d": 3 }, "gone": 4 });
        let made = json!({ "a": 1, "b": { "c": 5, "d": 3 }, "new": [6] });
        let told: Vec<String> = differences("line 1", &stored, &made)
            .iter()
            .map(Difference::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "line 1: b.c: stored 2, recomputed 5",
                "line 1: gone: stored 4, recomputed null",
                "line 1: new: stored null, recomputed [6]",
            ]
        );
        assert_eq!(differences("it", &made, &made), []);
    }
}
