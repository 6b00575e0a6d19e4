//! One operation of the document: what it takes, and what it answers.

use mayfly_protocol::JobKind;
use mayfly_protocol::answer::JobAnswer;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::Schemas;
use crate::access::Scope;

/// What a path does with a method.
pub(super) struct Operation {
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    scopes: &'static [Scope],
    parameters: Vec<Value>,
    body: Option<Schema>,
    answers: Map<String, Value>,
}

impl Operation {
    pub(super) fn new(id: &'static str, tag: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            tag,
            summary,
            scopes: &[],
            parameters: Vec::new(),
            body: None,
            answers: Map::new(),
        }
    }

    /// For keys with one of these scopes.
    pub(super) fn scopes(mut self, scopes: &'static [Scope]) -> Self {
        self.scopes = scopes;
        self
    }

    pub(super) fn path(self, name: &str, about: &str) -> Self {
        self.parameter("path", name, about, json!({"type": "string"}), true)
    }

    pub(super) fn query(self, name: &str, about: &str, schema: Value) -> Self {
        self.parameter("query", name, about, schema, false)
    }

    pub(super) fn header(self, name: &str, about: &str) -> Self {
        self.parameter("header", name, about, json!({"type": "string"}), false)
    }

    fn parameter(mut self, place: &str, name: &str, about: &str, schema: Value, required: bool) -> Self {
        let mut parameter = json!({"in": place, "name": name, "description": about, "required": required});
        parameter["schema"] = schema;
        self.parameters.push(parameter);
        self
    }

    pub(super) fn body(mut self, schema: Schema) -> Self {
        self.body = Some(schema);
        self
    }

    /// An answer in JSON.
    pub(super) fn json<T: JsonSchema>(self, schemas: &mut Schemas, status: &str, about: &str) -> Self {
        let schema = schemas.answers.subschema_for::<T>();
        let content = json!({"application/json": {"schema": schema}});
        self.answer(status, about, content)
    }

    /// An answer of another type.
    pub(super) fn raw(self, status: &str, about: &str, kinds: &[&str]) -> Self {
        let content: Map<String, Value> = kinds
            .iter()
            .map(|kind| ((*kind).to_owned(), json!({"schema": {"type": "string"}})))
            .collect();
        self.answer(status, about, content.into())
    }

    /// Another type that an answer may have, if it is asked for.
    pub(super) fn also(&mut self, status: &str, kind: &str) {
        self.answers[status]["content"][kind] = json!({"schema": {"type": "string"}});
    }

    /// A stream of events, each of which is one line of JSON; where the kind of the job is known, so is what its last one says.
    pub(super) fn events(self, schemas: &mut Schemas, about: &str, kind: Option<JobKind>) -> Self {
        let event = schemas.answers.subschema_for::<mayfly_protocol::Event>();
        let answer = match kind {
            Some(kind) => kind.answer_schema(&mut schemas.answers),
            None => Some(schemas.answers.subschema_for::<JobAnswer>()),
        };
        let mut schema = json!({"allOf": [event]});
        if let Some(answer) = answer {
            schema["if"] = json!({"properties": {"type": {"const": "completed"}}});
            schema["then"] = json!({"properties": {"data": answer}});
        }
        let mut it = self.answer("200", about, json!({"text/event-stream": {"schema": schema}}));
        it.answers["200"]["headers"] = json!({
            "X-Job-Id": {"description": "The id of the job.", "schema": {"type": "string", "format": "uuid"}},
        });
        it
    }

    pub(super) fn empty(mut self, status: &str, about: &str) -> Self {
        self.answers
            .insert(status.to_owned(), json!({"description": about}));
        self
    }

    fn answer(mut self, status: &str, about: &str, content: Value) -> Self {
        let mut answer = json!({"description": about});
        answer["content"] = content;
        self.answers.insert(status.to_owned(), answer);
        self
    }

    /// The operation as the document has it; whatever is refused is refused in one form.
    pub(super) fn into_json(self, schemas: &mut Schemas) -> Value {
        let mut it = self.json::<mayfly_protocol::Refusal>(
            schemas,
            "default",
            "Refused. The status is that of the code; a 429 carries `Retry-After`, and nothing was touched.",
        );
        it.answers["default"]["headers"] = json!({
            "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}},
        });
        let mut operation = json!({
            "operationId": it.id,
            "tags": [it.tag],
            "summary": it.summary,
            "parameters": it.parameters,
            "responses": it.answers,
            "security": [],
        });
        if !it.scopes.is_empty() {
            let names: Vec<String> = it.scopes.iter().map(|scope| format!("`{scope}`")).collect();
            operation["description"] = format!("Needs a key with the scope {}.", names.join(" or ")).into();
            operation["security"] = json!([{"key": []}]);
        }
        if let Some(schema) = it.body {
            let content = json!({"application/json": {"schema": schema}});
            operation["requestBody"] = json!({"required": true, "content": content});
        }
        operation
    }
}
