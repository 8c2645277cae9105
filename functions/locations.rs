//! Locations as requests name them.

use wharfage::context::Context;
use wharfage::error::Rejection;

/// The code of the location that a call names.
///
/// # Errors
/// With the codes that there are, when there is no such location.
pub(crate) fn known(context: &Context, named: Option<&str>) -> Result<Option<String>, Rejection> {
    let Some(named) = named else {
        return Ok(None);
    };
    match code(context, named) {
        Some(code) => Ok(Some(code.to_owned())),
        None => {
            let rule = format!("must be {}", codes(context).join(" or "));
            Err(Rejection::invalid("location", &rule))
        }
    }
}

/// The code of a location, however its letters are written.
pub(crate) fn code<'a>(context: &'a Context, named: &str) -> Option<&'a str> {
    // Where codes differ in nothing else, the one that is written as it is called.
    let exact = codes(context).into_iter().find(|code| *code == named);
    exact.or_else(|| {
        let mut codes = codes(context).into_iter();
        codes.find(|code| code.eq_ignore_ascii_case(named))
    })
}

/// The codes of this service's locations.
pub(crate) fn codes(context: &Context) -> Vec<&str> {
    let clusters = context.clusters.iter();
    clusters
        .map(|cluster| cluster.location.code.as_str())
        .collect()
}
