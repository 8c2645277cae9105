//! What things are known by: types over a number or a text, so that none is taken for another.

/// Makes such a type. It is stored and shown as what is inside.
macro_rules! identifier {
    ($(#[$attribute:meta])* $name:ident($inside:ty)) => {
        $(#[$attribute])*
        #[derive(
            Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inside);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        /// The schema of what is inside. A derived one would have the type's description too, in each element of a list.
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                <$inside>::schema_name()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                <$inside>::json_schema(generator)
            }
        }
    };
}
pub(crate) use identifier;
