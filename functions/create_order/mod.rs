//! `create_order`: orders an S3 account and pays it from the client's credit.

use wharfage::context::Context;
use wharfage::domain::order::Payment;
use wharfage::error::Error;
use wharfage::http::subject::Call;

use crate::provisioning::{self, Answered, Asked, Ordered, ordered};

crate::action! {
    /// Orders an account, paid from the client's credit.
    ///
    /// Without enough credit, nothing is ordered.
    "create_order" of Everybody, about (), with ordered,
        refuses [NotEnoughCredit],
        refuses like crate::provisioning::REFUSALS
}

async fn handle(
    context: &Context,
    call: Call<'_, Asked>,
    ordered: Ordered,
) -> Result<Answered, Error> {
    provisioning::place(context, call, ordered, NAME, Payment::Credit).await
}
