//! Shapes that are not as they are derived.

use std::collections::BTreeMap;

use utoipa::openapi::{Components, RefOr, Schema, path::Operation, schema::Object};

/// An alternative that adds its kind to a strict struct is one strict object: the struct by itself refuses the kind, and
/// both together would take nothing.
pub(super) fn join_kinds(components: &mut Components) {
    let objects: BTreeMap<String, Object> = components
        .schemas
        .iter()
        .filter_map(|(name, schema)| {
            let RefOr::T(Schema::Object(object)) = schema else { return None };
            Some((name.clone(), object.clone()))
        })
        .collect();
    for schema in components.schemas.values_mut() {
        let RefOr::T(Schema::OneOf(one_of)) = schema else { continue };
        for item in &mut one_of.items {
            if let Some(joined) = joined(item, &objects) {
                *item = RefOr::T(Schema::Object(joined));
            }
        }
    }
}

fn joined(item: &RefOr<Schema>, objects: &BTreeMap<String, Object>) -> Option<Object> {
    let RefOr::T(Schema::AllOf(all)) = item else { return None };
    let [RefOr::Ref(of), RefOr::T(Schema::Object(kind))] = all.items.as_slice() else {
        return None;
    };
    let name = of.ref_location.rsplit('/').next()?;
    let mut joined = objects.get(name)?.clone();
    joined.properties.extend(kind.properties.clone());
    joined.required.extend(kind.required.iter().cloned());
    Some(joined)
}

/// OpenAPI 3.1 has no words for the events of a stream: what it would call a body is the whole of it.
pub(super) fn leave_out_streams(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        if let Some(RefOr::T(stream)) = response.content.get_mut("text/event-stream") {
            stream.schema = None;
        }
    }
}
