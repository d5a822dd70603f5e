"""The verbs `catalog` (what an archive holds and what of it is fit) and `preprocess` (a case store from it)."""

from contextlib import closing
from pathlib import Path

from s3d.atomic_files import write_json
from s3d.data.case_record import StoreDescription
from s3d.data.case_store import CaseStore
from s3d.data.preprocessing import PreprocessingPlan
from s3d.errors import DatasetError, GeometryError, ImageError, LabelError
from s3d.preparation.case_preparation import case_name, prepare_case
from s3d.preparation.catalog import CatalogEntry, read_catalog, shard_path, without_duplicates, write_catalog
from s3d.preparation.config import CatalogConfig, PreprocessConfig, parse_shard
from s3d.preparation.importers.detection import find_images
from s3d.preparation.inspection import inspect
from s3d.preparation.parallel import in_parallel
from s3d.preparation.summary import catalog_summary, catalog_table
from s3d.progress import Progress

DROPPED_IMAGE = "E_IMAGE_DROPPED"


def catalog(config: CatalogConfig, progress: Progress) -> Path:
    """Write the catalogue (or this job's share of it) and its summary; returns the catalogue's path.

    Broken images become dropped lines. Raises DatasetError if nothing is found, StorageError.
    """
    shard = parse_shard(config.shard)
    kind, found = find_images(config.source, config.kind)
    share = sorted(found, key=lambda image: (str(image.path), image.series_id or ""))[shard.number - 1 :: shard.count]
    entries = []
    looked_at = in_parallel(lambda image: inspect(image, config), share, config.workers)
    with progress.stage("catalog", len(share)) as stage, closing(looked_at):
        for entry in looked_at:
            entries.append(entry)
            stage.advance()
    entries = without_duplicates(entries)
    output = shard_path(config.output, shard)
    write_catalog(output, entries)
    summary = catalog_summary(entries, kind, config)
    write_json(output.with_suffix(".summary.json"), summary)
    progress.note(catalog_table(summary))
    return output


def preprocess(config: PreprocessConfig, progress: Progress) -> Path:
    """Put every kept image (or this job's share) into the store, but for those already there; returns its folder.

    Images that cannot be used are left out and named in the summary. Raises DatasetError if nothing could be stored,
    StorageError.
    """
    shard = parse_shard(config.shard)
    kept = [entry for entry in read_catalog(config.catalog) if entry.kept]
    if not kept:
        raise DatasetError(f"{config.catalog} keeps no image; its summary says why. Change the filters or the source.")
    plan = PreprocessingPlan(
        orientation=config.orientation, spacing_mm=config.spacing_mm, normalization=config.normalization
    )
    store = CaseStore.create(config.output, StoreDescription(source=config.catalog.name, plan=plan))
    if shard.count == 1:  # else another job may be writing at this moment
        store.remove_leftovers()
    share = kept[shard.number - 1 :: shard.count]
    present = set(store.names())
    missing = [entry for entry in share if case_name(entry) not in present]
    refused = _store_all(missing, store, config.workers, len(share), progress)
    if share and len(refused) == len(share):
        raise DatasetError(
            f"None of the {len(share)} images of {config.catalog} could be used. The first: {refused[0]['reason']}"
        )
    summary = {"images": len(share), "stored": len(missing) - len(refused), "present_before": len(share) - len(missing)}
    write_json(shard_path(store.folder / "preprocess.summary.json", shard), {**summary, "refused": refused})
    progress.note(f"{summary['stored']} stored, {summary['present_before']} were there, {len(refused)} left out.")
    return store.folder


def _store_all(
    entries: list[CatalogEntry], store: CaseStore, workers: int, total: int, progress: Progress
) -> list[dict[str, str]]:
    """Store the entries side by side; returns which could not be, and why."""

    def prepare(entry: CatalogEntry) -> str | None:
        try:
            prepare_case(entry, store)
        except (ImageError, GeometryError, LabelError) as error:
            return str(error)
        return None

    refused = []
    problems = in_parallel(prepare, entries, workers)
    with progress.stage("preprocess", total, start=total - len(entries)) as stage, closing(problems):
        for entry, problem in zip(entries, problems, strict=True):
            if problem is not None:
                refused.append({"path": str(entry.path), "case": case_name(entry), "reason": problem})
                progress.warning(DROPPED_IMAGE, f"{problem} It is left out.")
            stage.advance()
    return refused
