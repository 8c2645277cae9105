//! The functions: one folder each, and THE list of them.
//!
//! A wire action is a folder with `mod.rs` (its handler) and `main.rs` (its Lambda entry), a line below, a `[[bin]]` in
//! `Cargo.toml` and a resource in `infra/template.yaml`. What several of them share stands in a file beside the folders.

mod allowance;
mod asking;
mod billing;
mod bucket_lists;
mod chasing;
mod clients;
mod closing;
mod differences;
mod files;
mod invoices;
mod invoicing;
mod locations;
mod metering;
mod plans;
mod provisioning;
pub mod rebuild;
pub mod replay;
mod services;
mod suspension;
mod upkeep;

pub use differences::Difference;

use wharfage::http::Action;
use wharfage::runtime::Function;

/// Makes a folder a wire action of `s3.php`: `ACTION` for whoever dispatches, `FUNCTION` for its own Lambda function. It takes the
/// parameters named, in groups, and `token`.
macro_rules! s3_action {
    ($name:literal, takes [$($names:expr),* $(,)?]) => {
        s3_action!($name, speaks as $name, takes [$($names),*]);
    };
    ($name:literal, speaks as $speaks_as:literal, takes [$($names:expr),* $(,)?]) => {
        /// Its name on the wire. For the handler itself, which `ACTION` is made of and so cannot name it.
        const NAME: &str = $name;
        /// The action on the wire.
        pub const ACTION: wharfage::http::Action = wharfage::http::Action {
            module: "s3",
            name: NAME,
            speaks_as: $speaks_as,
            allows_get: |_| false,
            takes: wharfage::http::takes::Takes {
                names: &[wharfage::http::tokens::TOKEN, $($names),*],
                unused: &[],
            },
            handler: |context, call| Box::pin(handle(context, call)),
        };
        /// Its Lambda function.
        pub const FUNCTION: wharfage::runtime::Function = wharfage::runtime::Function {
            name: NAME,
            entry: wharfage::runtime::Entry::Http(|context, request| {
                let route = wharfage::http::Route::Path(&ACTION);
                let answer = wharfage::http::answer(context, request, route);
                Box::pin(wharfage::telemetry::invoked(NAME, answer))
            }),
        };
    };
}
use s3_action;

/// Makes a folder an endpoint of its own: the parameter `action` says which of several is wanted, at one path.
macro_rules! endpoint {
    ($name:literal, $path:literal, $actions:expr) => {
        /// Its Lambda function.
        pub const FUNCTION: wharfage::runtime::Function = wharfage::runtime::Function {
            name: $name,
            entry: wharfage::runtime::Entry::Http(|context, request| {
                let route = wharfage::http::Route::Parameter($path, $actions);
                let answer = wharfage::http::answer(context, request, route);
                Box::pin(wharfage::telemetry::invoked($name, answer))
            }),
        };
    };
}
use endpoint;

/// Makes a folder a job, with `async fn run(context)`.
macro_rules! job {
    ($name:literal) => {
        /// Its Lambda function.
        pub const FUNCTION: wharfage::runtime::Function = wharfage::runtime::Function {
            name: $name,
            entry: wharfage::runtime::Entry::Schedule(|context| {
                Box::pin(wharfage::telemetry::invoked($name, run(context)))
            }),
        };
    };
}
use job;

/// Makes a folder a worker, with `async fn handle(context, body)`.
macro_rules! worker {
    ($name:literal) => {
        /// Its Lambda function.
        pub const FUNCTION: wharfage::runtime::Function = wharfage::runtime::Function {
            name: $name,
            entry: wharfage::runtime::Entry::Queue(|context, body| {
                Box::pin(wharfage::telemetry::invoked($name, handle(context, body)))
            }),
        };
    };
}
use worker;

macro_rules! list {
    (actions: $($action:ident)+; endpoints: $($endpoint:ident)+; groups: $($group:ident { $($member:ident)+ })+) => {
        $(pub mod $action;)+
        $(pub mod $endpoint;)+
        $(
            #[doc = concat!("The ", stringify!($group), ".")]
            pub mod $group {
                $(pub mod $member;)+
            }
        )+

        /// Every wire action of `s3.php`.
        pub const ACTIONS: &[&Action] = &[$(&$action::ACTION),+];

        /// Every function, by the name of its binary.
        pub const FUNCTIONS: &[Function] = &[
            $($action::FUNCTION,)+
            $($endpoint::FUNCTION,)+
            $($($group::$member::FUNCTION,)+)+
        ];
    };
}

list! {
    actions:
        add_credit
        cancel_payment_account_deletion
        change_plan
        create_account
        create_api_key
        create_bucket
        create_client
        create_order
        create_plan
        delete_account
        delete_bucket
        delete_file
        delete_payment_account
        end_access
        get_available_locations
        get_buckets
        get_buckets_rmq
        get_files
        get_invoice
        get_usage
        get_users
        history
        list_cleanups
        list_invoices
        list_plans
        preview_invoice
        resume_account
        revoke_api_key
        rotate_key
        show_key
        suspend_account
        update_client
        update_plan
        update_traffic_info;
    endpoints:
        auth_php
        eq_callback_php
        s3_php;
    groups:
        jobs {
            chase_invoices
            close_periods
            collect_usage
            create_first_admin
            end_services
            publish_events
            recount_ledger
            resume_orders
            resume_tasks
        }
        workers {
            billing
            cleanup
            storage_tasks
            usage_shards
        }
}
