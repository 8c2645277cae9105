//! `POST /s3.php`: the reference's single endpoint. The parameter `action` picks the handler; all are linked here.

use wharfage::http::{Route, answer};
use wharfage::runtime::{Entry, Function};

use crate::ACTIONS;

/// Its Lambda function.
pub const FUNCTION: Function = Function {
    name: "s3_php",
    entry: Entry::Http(|context, request| {
        Box::pin(answer(
            context,
            request,
            Route::Parameter("/s3.php", ACTIONS),
        ))
    }),
};
