//! Who may ask for what: access tokens and their quotas.
//!
//! ```text
//! command line ──▶ Register ──▶ service.sqlite3 ◀── worker thread ◀── Authority ◀── routes
//!                  create, list, revoke             the one connection    authenticate, admit
//! ```
//!
//! [`Register`] makes and revokes tokens, [`Authority`] judges requests while the service runs; both may be at work at
//! once, in two processes. A quota is counted on disk before a request is let in, so it holds over a restart and over
//! a kill at any moment. What power failures may take away are the last moments' counts, never a token or a revocation.
//!
//! Nothing here knows HTTP: where a token stands in a request, and with which status a refusal is answered, is said in
//! the routes.

mod authority;
#[cfg(test)]
mod authority_tests;
mod grant;
mod ledger;
mod quota;
mod register;
mod schema;
mod text;
mod worker;

pub use crate::database::OpenError;
pub use authority::{AdmitError, AuthError, Authority, Caller, Permit};
pub use grant::{Grant, NotAllowed, ParseNameError, ParseRateError, Rate, RatePeriod, TokenName};
pub use quota::QuotaExceeded;
pub use register::{
    CreateTokenError, ListTokensError, NewToken, Register, Revocation, RevokeTokenError, TokenState,
    TokenStatus,
};
pub use text::{TokenId, TokenText};

pub(crate) use schema::SCHEMA;
