//! Typed parameters. A struct declares what an action takes: its fields are the names on the wire, parsed in order of declaration. A
//! field's type has its rule, its error text and its schema.
//!
//! A field that is a struct itself stands for the fields of that one (`#[schemars(flatten)]` tells the schema so).
//!
//! Absent, an empty text and JSON's null are the same: no value. An `Option` may have none, [`Given`] tells an empty one from none.

use std::fmt;

use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    VariantAccess, Visitor,
};
use serde_json::{Map, Value};

use crate::error::Rejection;
use crate::http::parameters::Parameters;

/// Further names of parameters, as published clients write them: each with the name that it stands for, which wins.
pub const ALIASES: [(&str, &str); 4] = [
    ("bucket", "bucket_name"),
    ("file", "filename"),
    ("key_type", "s3_key"),
    ("limit", "max_keys"),
];

/// How the rest of a name is asked for that stands once per currency: `monthly_eur`.
const PER_CURRENCY: &str = "$PerCurrency";
/// How an empty value is told from none.
const GIVEN: &str = "$Given";

/// Reads what an action takes.
///
/// # Errors
/// 400 for the first field, in the order they are written, that is missing or breaks its rule.
pub fn read<T: DeserializeOwned>(parameters: &Parameters) -> Result<T, Rejection> {
    match T::deserialize(Fields { parameters }) {
        Ok(read) => Ok(read),
        Err(Problem::Refused(rejection)) => Err(rejection),
        // A field names itself, so this is a type that is no struct of parameters.
        Err(Problem::Rule(rule)) => Err(Rejection::unreadable(rule)),
        Err(Problem::Missing) => Err(Rejection::unreadable("a parameter is missing")),
    }
}

/// The names that a struct of parameters has on the wire, those of structs within it too.
#[must_use]
pub fn names<T: JsonSchema>() -> Vec<String> {
    let schema = SchemaGenerator::default().into_root_schema_for::<T>();
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default()
}

/// The name that an alias stands for, among what an action takes.
#[must_use]
pub fn alias_of(name: &str, takes: &[&str]) -> Option<&'static str> {
    ALIASES
        .iter()
        .find(|(alias, of)| *alias == name && takes.contains(of) && !takes.contains(&name))
        .map(|(_, of)| *of)
}

/// A parameter that may be there without a value, which means something: to take away what it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Given<T> {
    /// Not there: leave it as it is.
    #[default]
    Not,
    /// There, with no value.
    Empty,
    /// There.
    Value(T),
}

impl<T> Given<T> {
    /// Applies what was given: an empty one is `None`.
    pub fn apply(self, set: impl FnOnce(Option<T>)) {
        match self {
            Given::Not => {}
            Given::Empty => set(None),
            Given::Value(value) => set(Some(value)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Given<T>, D::Error> {
        struct Kinds<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Kinds<T> {
            type Value = Given<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a parameter")
            }

            fn visit_none<E>(self) -> Result<Given<T>, E> {
                Ok(Given::Not)
            }

            fn visit_unit<E>(self) -> Result<Given<T>, E> {
                Ok(Given::Empty)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Given<T>, D::Error> {
                T::deserialize(deserializer).map(Given::Value)
            }
        }
        deserializer.deserialize_newtype_struct(GIVEN, Kinds(std::marker::PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Given<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Given{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Option::<T>::json_schema(generator)
    }
}

/// Parameters that stand once per currency: of a field called `monthly_*` on the wire, all of `monthly_eur`, `monthly_usd` and so on, as
/// they were written, by their whole names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PerCurrency(pub Vec<(String, String)>);

impl JsonSchema for PerCurrency {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PerCurrency".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["number", "string"],
            "minimum": 0,
            "pattern": r"^([0-9]{1,18}(\.[0-9]{1,9})?)?$",
            "description": "A decimal number, not negative, with at most 9 places.",
            "examples": ["15.00"],
        })
    }
}

impl<'de> Deserialize<'de> for PerCurrency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PerCurrency, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = PerCurrency;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a price per currency")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<PerCurrency, A::Error> {
                let mut texts = Vec::new();
                while let Some(entry) = access.next_entry::<String, String>()? {
                    texts.push(entry);
                }
                Ok(PerCurrency(texts))
            }
        }
        deserializer.deserialize_newtype_struct(PER_CURRENCY, Texts)
    }
}

/// What stops a reading.
#[derive(Debug)]
enum Problem {
    /// What the caller is told.
    Refused(Rejection),
    /// A rule that a value breaks; whoever knows the parameter's name adds it.
    Rule(String),
    /// There is no value where there has to be one.
    Missing,
}

impl Problem {
    fn of(self, name: &str) -> Problem {
        match self {
            Problem::Rule(rule) => Problem::Refused(Rejection::invalid(name, &rule)),
            Problem::Missing => Problem::Refused(Rejection::missing(name)),
            named => named,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Refused(rejection) => f.write_str(&rejection.text),
            Problem::Rule(rule) => f.write_str(rule),
            Problem::Missing => f.write_str("a parameter is missing"),
        }
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(rule: T) -> Problem {
        Problem::Rule(rule.to_string())
    }

    fn missing_field(field: &'static str) -> Problem {
        Problem::Refused(Rejection::missing(field))
    }
}

/// Gives a struct its fields, each in its turn, whether there is a value or not.
struct Fields<'a> {
    parameters: &'a Parameters,
}

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Problem> {
        Err(Problem::Rule("the parameters cannot be read".into()))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_unit()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_map(InTurn {
            parameters: self.parameters,
            fields,
            at: 0,
        })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit_struct newtype_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

struct InTurn<'a> {
    parameters: &'a Parameters,
    fields: &'static [&'static str],
    at: usize,
}

impl<'de> MapAccess<'de> for InTurn<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        match self.fields.get(self.at) {
            Some(name) => seed.deserialize((*name).into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Problem> {
        let field = self.fields[self.at];
        self.at += 1;
        let alias = ALIASES
            .iter()
            .find(|(alias, of)| *of == field && !self.fields.contains(alias))
            .map(|(alias, _)| *alias);
        let names: &[&str] = match &alias {
            Some(alias) => &[field, alias],
            None => &[field],
        };
        let (found, is_given) = self.parameters.first(names);
        let name = found.map_or(field, |(name, _)| name);
        let one = One {
            parameters: self.parameters,
            field,
            value: found.map(|(_, value)| value),
            is_given,
        };
        seed.deserialize(one).map_err(|problem| problem.of(name))
    }
}

/// One parameter.
struct One<'a> {
    parameters: &'a Parameters,
    field: &'static str,
    value: Option<&'a Value>,
    /// Also when it has no value.
    is_given: bool,
}

impl One<'_> {
    /// Any text, as forms and JSON write it.
    fn raw_text(&self) -> Result<String, Problem> {
        match self.value {
            None => Err(Problem::Missing),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(_) => Err(Problem::Rule("must be a text".into())),
        }
    }

    /// A text of one line.
    fn line(&self) -> Result<String, Problem> {
        let text = self.raw_text()?;
        if text.chars().any(char::is_control) {
            return Err(Problem::Rule("must not hold control characters".into()));
        }
        if text.len() > 1_024 {
            return Err(Problem::Rule("must be at most 1024 bytes long".into()));
        }
        Ok(text)
    }
}

impl<'de> Deserializer<'de> for One<'_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_string(self.line()?)
    }

    /// What is to be read to its last byte: names of files, and numbers, which have a text of their own for what they are not.
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_string(self.raw_text()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.value {
            None => visitor.visit_none(),
            Some(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.value {
            None => Err(Problem::Missing),
            Some(Value::Object(object)) => Value::Object(object.clone())
                .deserialize_map(visitor)
                .map_err(|error| Problem::Rule(error.to_string())),
            Some(_) => Err(Problem::Rule("must be an object".into())),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match name {
            GIVEN if self.value.is_some() => visitor.visit_newtype_struct(self),
            GIVEN if self.is_given => visitor.visit_unit(),
            GIVEN => visitor.visit_none(),
            PER_CURRENCY => visitor.visit_map(Currencies {
                texts: self
                    .parameters
                    .starting_with(self.field.trim_end_matches('*')),
                next: None,
            }),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let text = self.line()?;
        match variants.iter().find(|variant| **variant == text) {
            Some(variant) => visitor.visit_enum(Variant(variant)),
            None => Err(Problem::Rule(one_of(variants))),
        }
    }

    /// A struct within the struct: its fields are parameters as well.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let parameters = self.parameters;
        Fields { parameters }.deserialize_struct(name, fields, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes unit unit_struct seq
        tuple tuple_struct identifier ignored_any
    }
}

/// `must be a, b or c`
fn one_of(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, others)) if !others.is_empty() => {
            format!("must be {} or {last}", others.join(", "))
        }
        _ => format!("must be {}", words.concat()),
    }
}

/// A word that stands for a variant without fields.
struct Variant(&'static str);

impl<'de> EnumAccess<'de> for Variant {
    type Error = Problem;
    type Variant = Variant;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Variant), Problem> {
        let value = seed.deserialize(self.0.into_deserializer())?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Variant {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Problem> {
        Err(Problem::Rule("must be a word".into()))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Problem> {
        Err(Problem::Rule("must be a word".into()))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Problem> {
        Err(Problem::Rule("must be a word".into()))
    }
}

/// Whole names with their texts.
struct Currencies<'a> {
    texts: Vec<(&'a String, &'a Value)>,
    next: Option<(&'a String, &'a Value)>,
}

impl<'de> MapAccess<'de> for Currencies<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        if self.texts.is_empty() {
            return Ok(None);
        }
        let (name, value) = self.texts.remove(0);
        self.next = Some((name, value));
        seed.deserialize(name.as_str().into_deserializer())
            .map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Problem> {
        let Some((name, value)) = self.next.take() else {
            return Err(Problem::Missing);
        };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(Problem::Rule("must be a text".into()).of(name)),
        };
        seed.deserialize(text.into_deserializer())
    }
}

/// An object as it came.
pub type Object = Map<String, Value>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::http::values::{Id, Whole};

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Open,
        Paid,
        Late,
    }

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    struct Inner {
        status: Option<Kind>,
        tags: Given<String>,
    }

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    struct Asked {
        bucket_name: String,
        #[schemars(flatten)]
        inner: Inner,
        #[serde(rename = "monthly_*")]
        monthly: PerCurrency,
        price: Option<Object>,
    }

    fn parameters(value: Value) -> Parameters {
        serde_json::from_value(value).expect("an object")
    }

    fn asked(value: Value) -> Result<Asked, String> {
        read(&parameters(value)).map_err(|rejection| rejection.text)
    }

    #[test]
    fn fields_are_read_by_their_names_and_types() {
        let read = asked(json!({
            "bucket_name": "photos", "status": "paid", "tags": "", "monthly_eur": 3, "monthly_usd": "4.00", "monthly_": null,
            "price": {"NL": {"EUR": "1"}},
        }));
        let expected = Asked {
            bucket_name: "photos".into(),
            inner: Inner {
                status: Some(Kind::Paid),
                tags: Given::Empty,
            },
            monthly: PerCurrency(vec![
                ("monthly_eur".into(), "3".into()),
                ("monthly_usd".into(), "4.00".into()),
            ]),
            price: json!({"NL": {"EUR": "1"}}).as_object().cloned(),
        };
        assert_eq!(read, Ok(expected));
        let least = asked(json!({ "bucket_name": 5 })).expect("read");
        assert_eq!(least.bucket_name, "5");
        assert_eq!((least.inner.status, least.inner.tags), (None, Given::Not));
        let tagged = asked(json!({ "bucket_name": "a", "tags": "x" })).expect("read");
        assert_eq!(tagged.inner.tags, Given::Value("x".into()));
    }

    #[test]
    fn an_alias_stands_for_its_name_which_wins() {
        let name = |value| asked(value).map(|asked| asked.bucket_name);
        assert_eq!(name(json!({ "bucket": "alias" })), Ok("alias".into()));
        assert_eq!(
            name(json!({ "bucket": "alias", "bucket_name": "own" })),
            Ok("own".into())
        );
        assert_eq!(
            name(json!({ "bucket": "alias", "bucket_name": "" })),
            Ok("alias".into())
        );
        assert_eq!(
            name(json!({ "bucket": ["a"] })),
            Err("invalid parameter bucket: must be a text".into())
        );
        assert_eq!(alias_of("bucket", &["bucket_name"]), Some("bucket_name"));
        assert_eq!(alias_of("limit", &["limit", "max_keys"]), None);
        assert_eq!(alias_of("bucket", &["s3uid"]), None);
    }

    #[test]
    fn the_first_field_that_is_wrong_is_told() {
        for (value, text) in [
            (json!({}), "missing parameter bucket_name"),
            (
                json!({ "bucket_name": null, "status": "x" }),
                "missing parameter bucket_name",
            ),
            (
                json!({ "bucket_name": "a\nb", "status": "x" }),
                "invalid parameter bucket_name: must not hold control characters",
            ),
            (
                json!({ "bucket_name": "a", "status": "x", "price": 5 }),
                "invalid parameter status: must be open, paid or late",
            ),
            (
                json!({ "bucket_name": "a", "price": 5 }),
                "invalid parameter price: must be an object",
            ),
            (
                json!({ "bucket_name": "a", "monthly_eur": true }),
                "invalid parameter monthly_eur: must be a text",
            ),
        ] {
            assert_eq!(asked(value), Err(text.into()));
        }
    }

    #[test]
    fn json_numbers_and_texts_are_both_whole_numbers() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Numbered {
            plan_id: Id,
        }
        let numbered = |plan_id| read::<Numbered>(&parameters(json!({ "plan_id": plan_id })));
        for value in [json!(5), json!("5")] {
            assert_eq!(numbered(value), Ok(Numbered { plan_id: Whole(5) }));
        }
        for value in [
            json!(-1),
            json!(0),
            json!(1.5),
            json!("1e3"),
            json!("99999999999999999999"),
            json!("+5"),
            json!(" 5"),
            json!([5]),
            json!(true),
            json!({}),
        ] {
            let refused = numbered(value.clone()).map_err(|rejection| rejection.text);
            let refused = refused.expect_err("no identifier");
            assert!(refused.starts_with("invalid parameter plan_id"), "{value}");
        }
    }

    #[test]
    fn the_names_are_those_of_the_fields() {
        assert_eq!(
            names::<Asked>().into_iter().collect::<BTreeSet<_>>(),
            ["bucket_name", "monthly_*", "price", "status", "tags"]
                .map(str::to_owned)
                .into()
        );
    }
}
