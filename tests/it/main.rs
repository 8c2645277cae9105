//! One binary of tests: a file per action, per job and per property.

mod auth_php;
mod bad_input;
mod cancel_payment_account_deletion;
mod create_account;
mod create_bucket;
mod create_order;
mod delete_account;
mod delete_bucket;
mod delete_file;
mod delete_payment_account;
mod eq_callback_php;
mod get_available_locations;
mod get_buckets;
mod get_buckets_rmq;
mod get_files;
mod get_users;
mod history;
mod list_plans;
mod s3_php;
mod show_key;
mod update_traffic_info;
