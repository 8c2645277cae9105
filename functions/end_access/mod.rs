//! `end_access`: revokes all access of a client, and the access that it gave to others. For admins.
//!
//! | step | what | when it dies here |
//! |---|---|---|
//! | epoch | one transaction: the client's epoch, its role with `demote=1`, the history entry | again: it is raised once more |
//! | own keys | a transaction each: the key goes, and is noted among those whose sessions are still to end | the rest are still listed |
//! | keys made | the same where the key is still there; then its sessions end; then the note goes | the note is still there |
//! | administrators made | with `demote=1`, a transaction each | they are still administrators |
//!
//! The epoch comes first: from then on, requests of the client in flight create neither keys nor administrators, so what is listed
//! afterwards is complete.

use futures::stream::{self, StreamExt, TryStreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::database::MadeKey;
use wharfage::domain::client::{Client, ClientId, Role};
use wharfage::domain::credential::ApiKey;
use wharfage::domain::history::{Entity, Entry};
use wharfage::error::{Error, Fault, Reason, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::tokens::Caller;
use wharfage::http::values::{Id, Whole};

crate::action! {
    /// Ends a client's sessions and API keys, and the API keys that it created for others.
    ///
    /// If `complete` is false, some are left: repeat the call.
    "end_access" of Administrators, about Client,
        refuses [OwnRole, ConfirmationNeeded, NoSuccessor, ChangedMeanwhile]
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// 1 to take the administrator role away, also from administrators that it created.
    demote: Option<Whole<0, 1>>,
    /// 1 to confirm that you end your own access. Then `successor` is required.
    confirm: Option<Whole<0, 1>>,
    /// The administrator who remains, if you end your own access.
    successor: Option<Id>,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The client.
    client_id: ClientId,
    /// Its role now.
    role: Role,
    /// Whether nothing is left to end.
    complete: bool,
    /// The API keys that were ended.
    api_keys: Vec<KeyShown>,
    /// The key of the caller's own session, which is kept.
    kept_api_key: Option<KeyShown>,
    /// The administrators that the client created.
    administrators: Vec<AdministratorShown>,
    /// The numbers of the clients that it created.
    clients: Vec<ClientId>,
}

/// An API key.
#[derive(Debug, Serialize, JsonSchema)]
struct KeyShown {
    /// Its identifier for `revoke_api_key`.
    api_key_id: String,
    /// Its owner.
    client_id: ClientId,
    /// Its purpose.
    name: String,
}

impl From<&MadeKey> for KeyShown {
    fn from(key: &MadeKey) -> KeyShown {
        KeyShown {
            api_key_id: key.api_key_id.clone(),
            client_id: key.client_id,
            name: key.name.clone(),
        }
    }
}

/// An administrator.
#[derive(Debug, Serialize, JsonSchema)]
struct AdministratorShown {
    /// The number.
    client_id: ClientId,
    /// The email.
    email: String,
    /// Their role now.
    role: Role,
}

/// Keys that one call takes: as many as fit well into its time.
const MOST_AT_A_TIME: usize = 100;
/// Administrators that one client can be thought to have made.
const MOST_ADMINS: i32 = 500;
/// Worked on at once.
const AT_ONCE: usize = 8;
/// Clients that an answer names.
const MOST_CLIENTS: i32 = 500;

async fn handle(context: &Context, call: Call<'_, Asked, Client>) -> Result<Answered, Error> {
    let (caller, before, asked) = (call.caller, call.about, call.parameters);
    let client_id = before.client_id;
    let demotes = asked.demote == Some(Whole(1));
    let is_confirmed = asked.confirm == Some(Whole(1));
    let successor_id = asked.successor.map(|Whole(id)| ClientId(id));
    let ending = Ending {
        context,
        caller: &caller,
        client_id,
    };
    let successor = if client_id == caller.client_id {
        if demotes {
            let text = "administrators cannot change their own role";
            return Err(Rejection::new(Reason::OwnRole, text).into());
        }
        if !is_confirmed {
            let text = "this would end your own access: send confirm=1 and a successor";
            return Err(Rejection::new(Reason::ConfirmationNeeded, text).into());
        }
        let successor_id = successor_id.ok_or_else(|| Rejection::missing("successor"))?;
        Some(ending.successor(successor_id).await?)
    } else {
        None
    };

    let mut client = before.clone();
    client.epoch += 1;
    if demotes {
        client.role = Role::Client;
    }
    ending
        .raise_epoch(&before, &client, successor.as_ref())
        .await?;
    let (is_complete, api_keys) = ending.end_keys().await?;
    let clients = async {
        let clients = context.database.clients_made_by(client_id, MOST_CLIENTS);
        Ok(clients.await?)
    };
    let (admins, clients) = futures::try_join!(ending.admins(demotes), clients)?;
    let kept = api_keys.iter().find(|key| ending.is_callers_own(key));
    let ended = api_keys.iter().filter(|key| !ending.is_callers_own(key));
    let administrators = admins.iter().map(|admin| AdministratorShown {
        client_id: admin.client_id,
        email: admin.email.clone(),
        role: admin.role,
    });
    Ok(Answered {
        client_id,
        role: client.role,
        complete: is_complete,
        api_keys: ended.map(KeyShown::from).collect(),
        kept_api_key: kept.map(KeyShown::from),
        administrators: administrators.collect(),
        clients,
    })
}

/// Whose access ends, and who ends it.
struct Ending<'a> {
    context: &'a Context,
    caller: &'a Caller,
    client_id: ClientId,
}

impl Ending<'_> {
    /// The administrator who stays when one ends his own access: he must be able to come in without anything that the other made.
    async fn successor(&self, client_id: ClientId) -> Result<Client, Error> {
        let database = &self.context.database;
        let limit = limit();
        let (client, keys) = futures::try_join!(
            database.client(client_id),
            database.api_keys_of(client_id, limit)
        )?;
        let is_others = |key: &ApiKey| {
            let maker = key.made_by.as_ref().and_then(|maker| maker.client_id);
            maker != Some(self.client_id)
        };
        client
            .filter(|client| client.role == Role::Admin && client_id != self.client_id)
            .filter(|_| keys.iter().any(|(_, key)| is_others(key)))
            .ok_or_else(|| {
                let text =
                    "the successor must be another administrator with an API key that you did not make";
                Rejection::new(Reason::NoSuccessor, text).into()
            })
    }

    fn entry(&self, client_id: ClientId, action: &str, details: Value) -> Entry {
        let entity = Entity::Client(client_id);
        self.context.entry(
            Some(client_id),
            &entity,
            action,
            self.caller.actor(),
            details,
        )
    }

    async fn raise_epoch(
        &self,
        before: &Client,
        client: &Client,
        successor: Option<&Client>,
    ) -> Result<(), Error> {
        let details = json!({
            "role": client.role,
            "successor": successor.map(|successor| successor.client_id),
        });
        let entry = self.entry(client.client_id, NAME, details);
        let access = &self.caller.access;
        let database = &self.context.database;
        // His own record may have been read before his session ended.
        if before.client_id == self.caller.client_id && before.epoch != access.epoch {
            return Err(Rejection::invalid_token().into());
        }
        if database
            .update_client(before, client, &entry, access, successor)
            .await?
            .is_yes()
        {
            return Ok(());
        }
        self.caller.must_stand(self.context).await?;
        Err(changed())
    }

    /// Whether it is the key that the caller is in by: without it he could not see this through.
    fn is_callers_own(&self, key: &MadeKey) -> bool {
        self.client_id != self.caller.client_id && key.api_key_id == self.caller.access.api_key_hash
    }

    /// Ends the client's own API keys, and those that it made for others. Whether these were all, and which they were.
    async fn end_keys(&self) -> Result<(bool, Vec<MadeKey>), Fault> {
        let database = &self.context.database;
        let own = database.api_keys_of(self.client_id, limit()).await?;
        let mut is_complete = own.len() <= MOST_AT_A_TIME;
        stream::iter(own.into_iter().take(MOST_AT_A_TIME))
            .map(|(hash, key)| async move { self.forget(&hash, &key).await })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        let made = database.keys_made_by(self.client_id, limit()).await?;
        is_complete &= made.len() <= MOST_AT_A_TIME;
        let keys: Vec<MadeKey> = made.into_iter().take(MOST_AT_A_TIME).collect();
        stream::iter(keys.clone())
            .map(|key| self.end_key(key))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok((is_complete, keys))
    }

    async fn end_key(&self, key: MadeKey) -> Result<(), Fault> {
        if self.is_callers_own(&key) {
            return Ok(());
        }
        let database = &self.context.database;
        let hash = &key.api_key_id;
        if let Some(key) = database.api_key(hash).await? {
            self.forget(hash, &key).await?;
        }
        database.delete_sessions_of(hash).await?;
        database.forget_made_key(self.client_id, hash).await
    }

    async fn forget(&self, hash: &str, key: &ApiKey) -> Result<(), Fault> {
        let details = json!({ "api_key_id": hash, "name": key.name, "end_access": self.client_id });
        let entry = self.entry(key.client_id, "revoke_api_key", details);
        self.context
            .database
            .delete_api_key_for(self.client_id, hash, key, &entry)
            .await
    }

    /// The administrators that the client made, as they are then. Demotes them if that is wanted, all but the caller.
    async fn admins(&self, demotes: bool) -> Result<Vec<Client>, Error> {
        let made = self
            .context
            .database
            .admins_made_by(self.client_id, MOST_ADMINS)
            .await?;
        let admins: Vec<Option<Client>> = stream::iter(made)
            .map(|client_id| self.admin(client_id, demotes))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(admins.into_iter().flatten().collect())
    }

    async fn admin(&self, client_id: ClientId, demotes: bool) -> Result<Option<Client>, Error> {
        let database = &self.context.database;
        let Some(before) = database.client(client_id).await? else {
            return Ok(None);
        };
        let is_spared = client_id == self.caller.client_id;
        if !demotes || is_spared || before.role != Role::Admin {
            return Ok(Some(before));
        }
        let client = Client {
            role: Role::Client,
            epoch: before.epoch + 1,
            ..before.clone()
        };
        let details = json!({ "role": client.role, "made_by": self.client_id });
        let entry = self.entry(client_id, NAME, details);
        if database
            .update_client(&before, &client, &entry, &self.caller.access, None)
            .await?
            .is_yes()
        {
            return Ok(Some(client));
        }
        self.caller.must_stand(self.context).await?;
        Err(changed())
    }
}

/// One more than is worked on tells whether there is more.
fn limit() -> i32 {
    i32::try_from(MOST_AT_A_TIME + 1).unwrap_or(i32::MAX)
}

fn changed() -> Error {
    Rejection::changed_meanwhile("the client was changed meanwhile").into()
}
