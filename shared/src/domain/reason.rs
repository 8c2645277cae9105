//! Why requests are refused: the closed list, each with its status.

use serde::{Deserialize, Deserializer, Serialize};

/// The reasons and what they mean.
macro_rules! reasons {
    ($($status:literal { $($reason:ident $title:literal)+ })+) => {
        /// Why a request is refused, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::IntoStaticStr, strum::EnumString, strum::VariantArray)]
        #[serde(rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        pub enum Reason {
            $($(
                #[doc = concat!($status, ": ", $title, ".")]
                $reason,
            )+)+
        }

        impl Reason {
            /// What it means, as a problem document's title.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $($(Reason::$reason => $title,)+)+ }
            }

            /// The HTTP status that it goes with.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $($(Reason::$reason => $status,)+)+ }
            }
        }
    };
}

reasons! {
    400 {
        ParameterMissing "A parameter is missing"
        ParameterInvalid "A parameter has an invalid value"
        ParameterUnknown "The action does not take a parameter of this name"
        RequestUnreadable "The request cannot be read"
        ActionUnknown "There is no action of this name"
    }
    401 {
        TokenMissing "The token is missing"
        TokenInvalid "The token is wrong, has been ended, or is used from another address"
        TokenExpired "The token has expired"
        KeyInvalid "The API key is wrong or revoked"
    }
    402 {
        NotEnoughCredit "The client does not have enough credit"
        CreditLimitReached "The client would exceed its credit limit"
        InvoiceOverdue "The client must pay an overdue invoice first"
    }
    403 {
        AdministratorsOnly "Only administrators may do this"
        AccountSuspended "An administrator has suspended the account"
        AccountSuspendedUnpaid "The account is suspended: an invoice is overdue"
        AccountSuspendedTraffic "The account is suspended: the traffic of its period is used up"
        AccountLimitReached "The client has reached its limit of accounts"
        FreeAccountLimitReached "The client has reached its limit of free accounts, or removed too many this month"
        AccessDenied "The storage does not allow it"
    }
    404 {
        PathUnknown "There is nothing at this path"
        AccountNotFound "The account does not exist, or is another client's"
        ClientNotFound "There is no such client"
        PlanNotFound "There is no such plan, or the client may not have it"
        BucketNotFound "The account has no such bucket"
        InvoiceNotFound "There is no such invoice, or it is another client's"
        ApiKeyNotFound "There is no such API key"
        CallbackNotFound "The callback key is wrong, or has been used"
    }
    405 {
        MethodNotAllowed "The path does not allow this method"
    }
    409 {
        BucketNameTaken "The name of the bucket is taken"
        EmailTaken "Another client has this email"
        ChangedMeanwhile "Another request is changing the same: retry"
        RequestUnderWay "The first request with this idempotency key is still in progress: retry later"
        AccountTerminating "The account is being deleted"
        AccountCancelled "The account is cancelled already"
        AccountNotCancelled "The account is not being cancelled"
        AccountNotSuspended "The account is not suspended"
        AccountNotOverdue "Nothing is overdue on the account"
        NoKeyToConfirm "The account has no new key to confirm"
        SamePlan "The account is on this plan already"
        PlanNotAvailable "The plan is not sold to this client, or not where the account is"
        PlanTooSmall "The account stores more than the plan allows"
        TooManyPlanChanges "The plan was changed too often in this period"
        PeriodClosing "The last period has yet to be closed: retry later"
        CurrencyInUse "The client has accounts, credit or debts in its current currency"
        CurrencyMismatch "The client is billed in another currency"
        ConfirmationNeeded "The call would end the caller's own access and needs confirmation"
        AmountTooLarge "An amount is too large"
        OwnRole "Administrators cannot change their own role"
        NoSuccessor "The successor must be another administrator who can log in without the caller"
        StorageRefused "The storage refuses it in its current state"
    }
    413 {
        RequestTooLarge "The body is too large"
    }
    415 {
        MediaTypeUnsupported "The body's media type is not supported"
    }
    422 {
        IdempotencyKeyReused "The idempotency key was used with other parameters"
        ReferenceReused "The reference was used for another payment"
    }
    429 {
        TooManyRequests "Too many concurrent requests: retry later"
    }
    500 {
        InternalError "A fault on our side"
    }
    503 {
        StorageUnavailable "The storage is unavailable: retry later"
        TemporarilyUnavailable "A service behind the API is unavailable: retry later"
    }
}

impl Reason {
    /// Its name, as it is sent.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Reads one that was stored: none where a later version wrote one that this version does not have.
    ///
    /// # Errors
    /// When it is no text.
    pub fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Reason>, D::Error> {
        let name: Option<String> = Option::deserialize(deserializer)?;
        Ok(name.and_then(|name| name.parse().ok()))
    }
}
