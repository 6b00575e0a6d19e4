//! Names things: asks the LLM, holds its answer to the rules, and falls back on the rules alone.
//!
//! This file must not know how an LLM is spoken to, nor how a name is made by rule.

use mayfly_http::GuardedClient;
use mayfly_protocol::{BranchName, SecretString};
use tokio_util::sync::CancellationToken;

use crate::answer::{self, AnswerFault};
use crate::branch::{self, vacancy};
use crate::change::ChangeSummary;
use crate::commit;
use crate::config::{LlmConfig, Provider};
use crate::llm::{Llm, LlmError};
use crate::named::Named;
use crate::prompt::{self, Prompt};
use crate::tokens::LlmUsage;

/// What a branch is named for.
#[derive(Debug, Clone, Copy)]
pub struct BranchRequest<'a> {
    /// What the user wants, in the user's words. It may be empty.
    pub user_request: &'a str,
    /// The branches that exist: the new name [collides](BranchName::collides_with) with none of them.
    pub taken: &'a [BranchName],
}

/// Names branches and writes commit messages. Neither ever fails; see [`Named::source`] for who did it.
#[derive(Debug, Clone)]
pub struct Namer {
    client: GuardedClient,
    llm: Option<LlmConfig>,
    usage: LlmUsage,
}

impl Namer {
    /// A namer that asks this LLM.
    ///
    /// Without one it asks Anthropic's own server where a caller brings a credential, and otherwise works by rule. The client decides
    /// whether the LLM's address may be reached.
    pub fn new(client: GuardedClient, llm: Option<LlmConfig>) -> Self {
        Self {
            client,
            llm,
            usage: LlmUsage::default(),
        }
    }

    /// What LLMs counted of the questions of this namer and its clones.
    pub fn usage(&self) -> &LlmUsage {
        &self.usage
    }

    /// A name for a branch: valid, at most 60 characters before a number that tells it from others, and free.
    pub async fn branch_name(
        &self,
        request: &BranchRequest<'_>,
        credential: Option<&SecretString>,
        cancel: &CancellationToken,
    ) -> Named<BranchName> {
        let user_request = request.user_request;
        let asked = if user_request.trim().is_empty() {
            Err(LlmError::NothingToAsk)
        } else {
            let read = |text: &str| answer::branch_name(text, branch::prefix(user_request));
            self.ask(|_| prompt::branch_name(user_request), read, credential, cancel)
                .await
        };
        let mut named = or_by_rule(asked, || branch::name(user_request));
        let is_taken = |name: &BranchName| {
            request
                .taken
                .iter()
                .any(|other| name.collides_with(other.as_str()))
        };
        named.value = vacancy::free(&named.value, user_request, &is_taken);
        named
    }

    /// A message for a commit: a Conventional Commit line of at most 72 characters, and perhaps a body.
    pub async fn commit_message(
        &self,
        change: &ChangeSummary,
        credential: Option<&SecretString>,
        cancel: &CancellationToken,
    ) -> Named<String> {
        let question = |config: &LlmConfig| prompt::commit_message(change, config.diff_budget_bytes);
        let asked = self
            .ask(question, answer::commit_message, credential, cancel)
            .await;
        or_by_rule(asked, || commit::message(change))
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(&LlmConfig) -> Prompt,
        read: impl FnOnce(&str) -> Result<T, AnswerFault>,
        credential: Option<&SecretString>,
        cancel: &CancellationToken,
    ) -> Result<T, LlmError> {
        let own =
            (self.llm.is_none() && credential.is_some()).then(|| LlmConfig::default_for(Provider::Anthropic));
        let config = self
            .llm
            .as_ref()
            .or(own.as_ref())
            .ok_or(LlmError::NotConfigured)?;
        let llm = Llm::new(&self.client, config, credential, &self.usage)?;
        let text = llm.ask(&question(config), cancel).await?;
        read(&text).map_err(LlmError::Answer)
    }
}

fn or_by_rule<T>(asked: Result<T, LlmError>, by_rule: impl FnOnce() -> T) -> Named<T> {
    match asked {
        Ok(value) => Named::llm(value),
        Err(error) => {
            tracing::debug!(reason = %error.reason(), "named by rule");
            Named::heuristic(by_rule(), error.reason())
        }
    }
}
