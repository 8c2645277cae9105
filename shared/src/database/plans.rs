//! Plans. There are few: all current ones are read by one query.

use aws_sdk_dynamodb::types::{AttributeValue, Put};

use super::transaction::{Conflict, Written};
use super::{Database, found, item, keys};
use crate::domain::history::Entry;
use crate::domain::plan::{Plan, PlanId};
use crate::error::Fault;

impl Database {
    /// A plan as it is sold now.
    pub async fn plan(&self, plan_id: PlanId) -> Result<Option<Plan>, Fault> {
        self.get(
            &self.tables.plans,
            keys::PLANS.into(),
            Some(keys::plan_in_list(plan_id)),
        )
        .await
    }

    /// A plan as it was or is sold, in one version.
    pub async fn plan_version(&self, plan_id: PlanId, version: u32) -> Result<Option<Plan>, Fault> {
        self.get(
            &self.tables.plans,
            keys::plan(plan_id),
            Some(keys::plan_version(version)),
        )
        .await
    }

    /// All plans as they are sold now, by number.
    pub async fn plans(&self) -> Result<Vec<Plan>, Fault> {
        let table = &self.tables.plans;
        let query = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :plans")
            .expression_attribute_values(":plans", AttributeValue::S(keys::PLANS.into()));
        found(table, query).await
    }

    /// Adds a plan, or the next version of one. The version must follow on the one sold now; else nothing is written and the answer
    /// is `No`.
    pub async fn put_plan(&self, plan: &Plan, entry: &Entry) -> Result<Written, Fault> {
        let table = &self.tables.plans;
        let mut transaction = self.transaction();
        let version = item(
            keys::plan(plan.id),
            Some(keys::plan_version(plan.version)),
            plan,
        )?;
        transaction.insert(table, version, Conflict::Changed);
        let current = item(keys::PLANS.into(), Some(keys::plan_in_list(plan.id)), plan)?;
        let put = Put::builder().table_name(table).set_item(Some(current));
        transaction.put(
            if plan.version == 1 {
                put.condition_expression("attribute_not_exists(pk)")
            } else {
                put.condition_expression("version = :previous")
                    .expression_attribute_values(":previous", super::number_value(plan.version - 1))
            },
            Conflict::Changed,
        );
        transaction.history(&self.tables.history, entry)?;
        transaction.commit().await
    }
}
