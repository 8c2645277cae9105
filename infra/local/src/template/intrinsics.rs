//! What `!Ref`, `!GetAtt`, `!Sub` and the like stand for on this machine.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use serde_yaml_ng::Value as Yaml;

use crate::error::Error;

/// The region and the account that local resources claim to be in.
pub(crate) const REGION: &str = "us-east-1";
/// The account that local resources claim to be in.
pub(crate) const ACCOUNT_ID: &str = "000000000000";

/// The names in scope in a template: parameters and what resources return.
#[derive(Clone, Default)]
pub(crate) struct Scope {
    references: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
    conditions: BTreeMap<String, Yaml>,
}

impl Scope {
    /// A scope with the pseudo-parameters and the template's conditions.
    pub(crate) fn new(conditions: BTreeMap<String, Yaml>) -> Scope {
        let mut scope = Scope {
            conditions,
            ..Scope::default()
        };
        for (name, value) in [
            ("AWS::AccountId", ACCOUNT_ID),
            ("AWS::Partition", "aws"),
            ("AWS::Region", REGION),
            ("AWS::StackId", "local"),
            ("AWS::StackName", "wharfage"),
            ("AWS::URLSuffix", "amazonaws.com"),
        ] {
            scope.define(name, value);
        }
        scope
    }

    /// Sets what `!Ref name` gives.
    pub(crate) fn define(&mut self, name: &str, value: impl Into<String>) {
        self.references.insert(name.to_owned(), value.into());
    }

    /// Sets what `!GetAtt name.attribute` gives.
    pub(crate) fn define_attribute(
        &mut self,
        name: &str,
        attribute: &str,
        value: impl Into<String>,
    ) {
        self.attributes
            .insert(format!("{name}.{attribute}"), value.into());
    }

    /// The value with every intrinsic function replaced by what it gives. `path` is for errors.
    ///
    /// # Errors
    /// Names the path of what is not known or not supported.
    pub(crate) fn resolve(&self, value: &Yaml, path: &str) -> Result<Json, Error> {
        Ok(self.evaluate(value, path)?.unwrap_or(Json::Null))
    }

    /// `None` is `AWS::NoValue`.
    fn evaluate(&self, value: &Yaml, path: &str) -> Result<Option<Json>, Error> {
        Ok(Some(match value {
            Yaml::Null => Json::Null,
            Yaml::Bool(value) => Json::Bool(*value),
            Yaml::Number(number) => {
                serde_json::to_value(number).map_err(|error| Error::template(path, error))?
            }
            Yaml::String(text) => Json::String(text.clone()),
            Yaml::Sequence(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    list.extend(self.evaluate(item, &format!("{path}[{index}]"))?);
                }
                Json::Array(list)
            }
            Yaml::Mapping(mapping) => {
                if let Some((function, argument)) = long_form(mapping) {
                    return self.call(function, argument, path);
                }
                let mut object = Map::new();
                for (key, item) in mapping {
                    let key = scalar(key)
                        .ok_or_else(|| Error::template(path, "a key is not a string"))?;
                    if let Some(item) = self.evaluate(item, &format!("{path}.{key}"))? {
                        object.insert(key, item);
                    }
                }
                Json::Object(object)
            }
            Yaml::Tagged(tagged) => {
                let tag = tagged.tag.to_string();
                return self.call(tag.trim_start_matches('!'), &tagged.value, path);
            }
        }))
    }

    fn call(&self, function: &str, argument: &Yaml, path: &str) -> Result<Option<Json>, Error> {
        let path = &format!("{path}.{function}");
        let text = match function {
            "Ref" => {
                let name = self.text(argument, path)?;
                if name == "AWS::NoValue" {
                    return Ok(None);
                }
                self.reference(&name, path)?
            }
            "GetAtt" => self.attribute(&attribute_name(argument, path)?, path)?,
            "Sub" => self.substitute(argument, path)?,
            "Join" => self.join(argument, path)?,
            "If" => {
                let [condition, yes, no] = list(argument, path)?;
                let condition = self.text(condition, path)?;
                let chosen = if self.condition(&condition, path)? {
                    yes
                } else {
                    no
                };
                return self.evaluate(chosen, path);
            }
            "Condition" | "Equals" | "Not" | "And" | "Or" => {
                return Ok(Some(Json::Bool(self.test(function, argument, path)?)));
            }
            other => {
                return Err(Error::template(
                    path,
                    format!("the local runner does not know the function {other}"),
                ));
            }
        };
        Ok(Some(Json::String(text)))
    }

    fn reference(&self, name: &str, path: &str) -> Result<String, Error> {
        self.references
            .get(name)
            .cloned()
            .ok_or_else(|| Error::template(path, format!("{name} stands for nothing here")))
    }

    fn attribute(&self, name: &str, path: &str) -> Result<String, Error> {
        self.attributes
            .get(name)
            .cloned()
            .ok_or_else(|| Error::template(path, format!("{name} stands for nothing here")))
    }

    fn substitute(&self, argument: &Yaml, path: &str) -> Result<String, Error> {
        let (text, own) = match argument {
            Yaml::Sequence(items) => match items.as_slice() {
                [text, Yaml::Mapping(own)] => (text, Some(own)),
                _ => return Err(Error::template(path, "expected a text and a mapping")),
            },
            text => (text, None),
        };
        let text = text
            .as_str()
            .ok_or_else(|| Error::template(path, "expected a text"))?;
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            result.push_str(&rest[..start]);
            let Some(length) = rest[start..].find('}') else {
                return Err(Error::template(path, "a ${ is not closed"));
            };
            let name = &rest[start + 2..start + length];
            rest = &rest[start + length + 1..];
            if let Some(literal) = name.strip_prefix('!') {
                result.push_str("${");
                result.push_str(literal);
                result.push('}');
            } else if let Some(value) = own.and_then(|own| own.get(name)) {
                result.push_str(&self.text(value, path)?);
            } else if name.contains('.') {
                result.push_str(&self.attribute(name, path)?);
            } else {
                result.push_str(&self.reference(name, path)?);
            }
        }
        result.push_str(rest);
        Ok(result)
    }

    fn join(&self, argument: &Yaml, path: &str) -> Result<String, Error> {
        let [separator, Yaml::Sequence(items)] = list(argument, path)? else {
            return Err(Error::template(path, "expected a separator and a list"));
        };
        let parts: Result<Vec<String>, Error> =
            items.iter().map(|item| self.text(item, path)).collect();
        Ok(parts?.join(&self.text(separator, path)?))
    }

    /// Whether a resource is to be made: its condition holds, or it has none.
    ///
    /// # Errors
    /// When the template has no such condition, or it cannot be understood.
    pub(crate) fn is_wanted(&self, resource: &Yaml, path: &str) -> Result<bool, Error> {
        match resource.get("Condition") {
            None => Ok(true),
            Some(name) => {
                let path = &format!("{path}.Condition");
                self.condition(&self.text(name, path)?, path)
            }
        }
    }

    fn condition(&self, name: &str, path: &str) -> Result<bool, Error> {
        let value = self
            .conditions
            .get(name)
            .ok_or_else(|| Error::template(path, format!("there is no condition {name}")))?;
        self.truth(value, &format!("Conditions.{name}"))
    }

    fn truth(&self, value: &Yaml, path: &str) -> Result<bool, Error> {
        match self.evaluate(value, path)? {
            Some(Json::Bool(truth)) => Ok(truth),
            _ => Err(Error::template(path, "expected a condition")),
        }
    }

    fn test(&self, function: &str, argument: &Yaml, path: &str) -> Result<bool, Error> {
        match function {
            "Condition" => self.condition(&self.text(argument, path)?, path),
            "Equals" => {
                let [left, right] = list(argument, path)?;
                Ok(self.text(left, path)? == self.text(right, path)?)
            }
            "Not" => {
                let [value] = list(argument, path)?;
                Ok(!self.truth(value, path)?)
            }
            _ => {
                let Yaml::Sequence(items) = argument else {
                    return Err(Error::template(path, "expected a list"));
                };
                let truths: Result<Vec<bool>, Error> =
                    items.iter().map(|item| self.truth(item, path)).collect();
                let truths = truths?;
                Ok(if function == "And" {
                    truths.iter().all(|truth| *truth)
                } else {
                    truths.iter().any(|truth| *truth)
                })
            }
        }
    }

    fn text(&self, value: &Yaml, path: &str) -> Result<String, Error> {
        match self.evaluate(value, path)? {
            Some(Json::String(text)) => Ok(text),
            Some(Json::Number(number)) => Ok(number.to_string()),
            Some(Json::Bool(value)) => Ok(value.to_string()),
            _ => Err(Error::template(path, "expected a text")),
        }
    }
}

/// `{"Fn::GetAtt": …}` and `{"Ref": …}`, the forms without a tag.
fn long_form(mapping: &serde_yaml_ng::Mapping) -> Option<(&str, &Yaml)> {
    let (key, argument) = mapping.iter().next().filter(|_| mapping.len() == 1)?;
    let key = key.as_str()?;
    match key {
        "Ref" => Some(("Ref", argument)),
        // A function's resource may carry `Condition: Name` among other keys, an intrinsic stands alone.
        "Condition" if argument.is_string() => Some(("Condition", argument)),
        _ => key.strip_prefix("Fn::").map(|name| (name, argument)),
    }
}

fn attribute_name(argument: &Yaml, path: &str) -> Result<String, Error> {
    match argument {
        Yaml::String(name) => Ok(name.clone()),
        Yaml::Sequence(parts) => parts
            .iter()
            .map(|part| part.as_str())
            .collect::<Option<Vec<&str>>>()
            .map(|parts| parts.join("."))
            .ok_or_else(|| Error::template(path, "expected names")),
        _ => Err(Error::template(path, "expected a name and an attribute")),
    }
}

fn list<'a, const N: usize>(argument: &'a Yaml, path: &str) -> Result<&'a [Yaml; N], Error> {
    match argument {
        Yaml::Sequence(items) => items.as_slice().try_into().ok(),
        _ => None,
    }
    .ok_or_else(|| Error::template(path, format!("expected a list of {N}")))
}

fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Number(number) => Some(number.to_string()),
        Yaml::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scope() -> Scope {
        let conditions = serde_yaml_ng::from_str(
            "IsLocal: !Equals [!Ref Stage, local]\nIsNot: !Not [!Condition IsLocal]\nAny: !Or [!Condition IsNot, Condition: IsLocal]",
        )
        .expect("yaml");
        let mut scope = Scope::new(conditions);
        scope.define("Stage", "local");
        scope.define("Table", "wharfage-Table");
        scope.define_attribute("Table", "Arn", "arn:table");
        scope
    }

    fn resolve(yaml: &str) -> Result<Json, String> {
        let value: Yaml = serde_yaml_ng::from_str(yaml).expect("yaml");
        scope()
            .resolve(&value, "Here")
            .map_err(|error| error.to_string())
    }

    #[test]
    fn short_and_long_forms_resolve_alike() {
        for yaml in [
            "!Ref Table",
            "Ref: Table",
            "!Sub '${Table}'",
            "Fn::Sub: '${Table}'",
        ] {
            assert_eq!(resolve(yaml), Ok(json!("wharfage-Table")), "{yaml}");
        }
        for yaml in [
            "!GetAtt Table.Arn",
            "!GetAtt [Table, Arn]",
            "Fn::GetAtt: Table.Arn",
            "Fn::GetAtt: [Table, Arn]",
            "!Sub '${Table.Arn}'",
        ] {
            assert_eq!(resolve(yaml), Ok(json!("arn:table")), "{yaml}");
        }
    }

    #[test]
    fn sub_join_and_if() {
        assert_eq!(
            resolve("!Sub ['${Table}/${Own}/${!Kept}', {Own: !Ref Stage}]"),
            Ok(json!("wharfage-Table/local/${Kept}"))
        );
        assert_eq!(
            resolve("!Join ['-', [a, !Ref Stage, 1]]"),
            Ok(json!("a-local-1"))
        );
        assert_eq!(resolve("!If [IsLocal, 1, 2]"), Ok(json!(1)));
        assert_eq!(resolve("Fn::If: [IsNot, 1, 2]"), Ok(json!(2)));
        assert_eq!(resolve("!If [Any, 1, 2]"), Ok(json!(1)));
        assert_eq!(
            resolve("a: !Ref AWS::NoValue\nb: [!Ref AWS::NoValue, !Ref AWS::Region]"),
            Ok(json!({"b": [REGION]}))
        );
    }

    #[test]
    fn errors_name_the_path() {
        assert_eq!(
            resolve("a: [x, !Ref Nothing]"),
            Err("infra/template.yaml: Here.a[1].Ref: Nothing stands for nothing here".into())
        );
        assert_eq!(
            resolve("a: !ImportValue x"),
            Err("infra/template.yaml: Here.a.ImportValue: the local runner does not know the function ImportValue".into())
        );
    }
}
