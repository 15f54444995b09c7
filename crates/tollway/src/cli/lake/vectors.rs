//! `tollway lake vectors`: run by gateways, which do not link Parquet themselves.

use std::io::Write;

use domain::JobId;
use engine::results::vectors_page;
use lake::vectors::{Vector, VectorWriter};
use store::Pools;

use crate::cli::{Exit, Failure, Outcome};

/// To standard output, one page of results at a time.
pub async fn print(pools: &Pools, job: JobId) -> Outcome {
    let mut conn = pools.api.acquire().await?;
    let source = store::result::source(&mut conn, job.0).await?;
    let source = source.ok_or_else(|| Failure::new(Exit::NotFound, format_args!("there is no job {job}")))?;
    if source.purged {
        return Err(Failure::new(
            Exit::NotFound,
            format_args!("the results of {job} were purged, as its retention says"),
        ));
    }
    let until = i32::try_from(source.accepted).unwrap_or(i32::MAX - 1) + 1;
    let mut writer = VectorWriter::new(std::io::BufWriter::new(std::io::stdout())).map_err(failed)?;
    let mut from = 1;
    let mut floats = Vec::new();
    while from < until {
        let page = vectors_page(&mut conn, job, from, until).await?;
        for row in &page.rows {
            floats.clear();
            floats.extend(row.floats());
            let vector = Vector {
                line: row.line,
                custom_id: &row.custom_id,
                index: row.index,
                model: row.model.as_deref().unwrap_or_default(),
                embedding: &floats,
            };
            writer.push(vector).map_err(failed)?;
        }
        from = page.next;
    }
    writer.finish().map_err(failed)?.flush()?;
    Ok(Exit::Done)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format_args!("the vectors cannot be written: {error}"))
}
