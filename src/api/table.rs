//! Tables as the API server prints them: the cells of a kind's printer columns, and nothing else of the objects.
//!
//! It is what kubectl shows. A list of objects makes the API server write out every field of each, which fields somebody has
//! set and when among them; its table costs a quarter of that and less, so whoever needs a few fields of many objects
//! asks for it. Source: `Table` of `meta.k8s.io/v1`.
//!
//! Tables are asked for whole and not in pages. They are small, and the API server answers them from its cache, while
//! the second page of a list that nobody has written to for some minutes makes it read all objects from etcd: of its
//! cache's earlier states, it keeps none that is older than etcd's last compaction.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The `Accept` header that asks for tables.
pub const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
/// The parameter that leaves the objects out of the rows, and its value.
pub const WITHOUT_OBJECTS: (&str, &str) = ("includeObject", "None");
/// The column that every table begins with.
pub const NAME: &str = "Name";

/// A table. Its rows are read one by one, since there may be very many.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table<'a> {
    #[serde(default)]
    column_definitions: Vec<Definition>,
    #[serde(borrow, default)]
    rows: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Deserialize)]
struct Definition {
    name: String,
}

#[derive(Deserialize)]
struct Row {
    cells: Vec<Value>,
}

/// The cells of one object, in the order in which they were asked for; `None` where it has nothing to say.
pub type Cells<const N: usize> = [Option<String>; N];

impl<'a> Table<'a> {
    /// From an answer.
    ///
    /// # Errors
    /// When it is no table.
    pub fn read(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The cells of these columns, row by row. `None` if the cluster's kind doesn't have all of them: it is of an older
    /// version, and the objects themselves have to be asked for.
    #[must_use]
    pub fn cells<const N: usize>(&self, columns: [&str; N]) -> Option<impl Iterator<Item = Cells<N>> + use<'a, '_, N>> {
        let mut places = [0; N];
        for (place, wanted) in places.iter_mut().zip(columns) {
            *place = self.column_definitions.iter().position(|column| column.name == wanted)?;
        }
        let rows = self.rows.iter().flatten().filter_map(|row| serde_json::from_str::<Row>(row.get()).ok());
        Some(rows.map(move |mut row| places.map(|place| row.cells.get_mut(place).and_then(|cell| text(cell.take())))))
    }
}

fn text(cell: Value) -> Option<String> {
    match cell {
        Value::Null => None,
        Value::String(text) => Some(text).filter(|text| !text.is_empty()),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cells<const N: usize>(table: &Value, columns: [&str; N]) -> Option<Vec<Cells<N>>> {
        let text = table.to_string();
        Some(Table::read(text.as_bytes()).unwrap().cells(columns)?.collect())
    }

    #[test]
    fn cells_come_in_the_order_asked_for() {
        let table = json!({
            "kind": "Table", "metadata": {"resourceVersion": "7"},
            "columnDefinitions": [{"name": "Name", "type": "string"}, {"name": "Batch"}, {"name": "Failed"}, {"name": "Held"}],
            "rows": [{"cells": ["a", "1/3", 2, true], "object": null}, {"cells": ["b", null, "", false]}, {"cells": ["c"]}],
        });
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            cells(&table, ["Failed", "Name", "Held"]).unwrap(),
            [
                [some("2"), some("a"), some("true")],
                [None, some("b"), some("false")],
                // Shorter than it should be: what isn't there says nothing.
                [None, some("c"), None],
            ]
        );
    }

    #[test]
    fn a_kind_of_an_older_version_is_noticed() {
        let table = json!({"columnDefinitions": [{"name": "Name"}], "rows": null});
        assert_eq!(cells(&table, ["Name"]), Some(Vec::new()));
        assert_eq!(cells(&table, ["Name", "Revision"]), None);
        assert!(Table::read(b"7").is_err());
    }
}
