//! Creates the first administrator and shows its API key once. Invoked by hand, on an installation without clients.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::client::{Client, ClientId, Role};
use wharfage::domain::credential::{ApiKey, Maker, hash};
use wharfage::domain::history::{Actor, Entity};
use wharfage::domain::money::Currency;
use wharfage::error::Fault;

crate::job!("create_first_admin");

/// Nobody can have this address (RFC 2606); `update_client` gives the administrator a real one.
const EMAIL: &str = "admin@wharfage.invalid";

async fn run(context: &Context) -> Result<Value, Fault> {
    let key = context.random.callback_key();
    let api_key_id = hash(&key);
    let api_key = ApiKey {
        client_id: ClientId(1),
        name: "first administrator".into(),
        created_at: context.now(),
        made_by: Some(Maker::from(&Actor::system("create_first_admin"))),
    };
    let admin = Client {
        client_id: ClientId(1),
        email: EMAIL.into(),
        role: Role::Admin,
        billing: "direct".into(),
        currency: Currency::from_code("EUR")
            .ok_or_else(|| Fault::permanent("making an administrator", "EUR is no currency"))?,
        tags: Vec::new(),
        accounts: 0,
        free_accounts: 0,
        epoch: 0,
        made_by: Some(Maker::from(&Actor::system("create_first_admin"))),
        credit_limit_minor: None,
    };
    let entry = context.entry(
        Some(admin.client_id),
        &Entity::Client(admin.client_id),
        "create_first_admin",
        Actor::system("create_first_admin"),
        json!({ "email": EMAIL, "api_key_id": api_key_id }),
    );
    let database = &context.database;
    if !database
        .insert_first_client(&admin, &api_key_id, &api_key, &entry)
        .await?
        .is_yes()
    {
        return Ok(json!({ "refused": "there are clients already" }));
    }
    Ok(json!({ "client_id": admin.client_id, "email": EMAIL, "api_key": key }))
}
