//! The names of functions that read or write files, whichever library they are of.

/// How sure a name is to take a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// Nothing else has that name.
    Sure,
    /// Other things have it too: only what looks like a file is one.
    Likely,
}

/// Whether a function of that name reads the file of its first argument.
pub(super) fn reader(last: &str) -> Option<Reader> {
    match last {
        // pandas, polars, geopandas, pyarrow, dask
        "read_csv" | "read_parquet" | "read_json" | "read_excel" | "read_feather" | "read_hdf" | "read_pickle" | "read_table"
        | "read_fwf" | "read_orc" | "read_stata" | "read_sas" | "read_spss" | "read_xml" | "read_html" | "read_ipc"
        | "read_ipc_stream" | "read_avro" | "read_delta" | "read_ndjson" | "read_ods" | "read_csv_batched" | "scan_csv"
        | "scan_parquet" | "scan_ipc" | "scan_ndjson" | "scan_delta" | "read_schema" | "read_metadata" | "read_pandas"
        | "ParquetFile" | "ParquetDataset" | "HDFStore" | "ExcelFile" | "load_workbook" | "open_csv"
        // numpy, scipy, xarray, h5py, netCDF4
        | "loadtxt" | "genfromtxt" | "fromfile" | "memmap" | "open_memmap" | "fromregex" | "loadmat" | "open_dataset"
        | "open_mfdataset" | "open_dataarray" | "load_dataarray" | "open_zarr" | "load_npz" | "wavfile"
        // settings
        | "load_dotenv" | "dotenv_values" | "fileConfig" | "from_pyfile" | "from_json_file" | "yaml_load_file"
        // images, models
        | "imread" | "load_model" | "load_weights" | "load_from_checkpoint" | "InferenceSession" | "load_learner" => {
            Some(Reader::Sure)
        }
        // json, yaml, toml, pickle, joblib, torch, numpy, ConfigParser, sqlite3, duckdb, h5py, zipfile, tarfile
        "load" | "safe_load" | "full_load" | "load_file" | "load_data" | "load_dataset" | "load_config" | "load_json"
        | "load_yaml" | "load_toml" | "load_pickle" | "load_csv" | "load_parquet" | "load_state_dict" | "from_file"
        | "from_yaml" | "from_json" | "from_toml" | "from_csv" | "from_parquet" | "read" | "read_file" | "read_yaml"
        | "read_toml" | "read_config" | "read_text_file" | "read_arrow" | "connect" | "File" | "Dataset" | "Dynaconf"
        | "ZipFile" | "is_zipfile" | "FileInput" | "input" | "parse" | "dataset" | "Booster" | "getline" | "getlines"
        | "open_file" | "open_group" | "open_array" | "load_image" | "from_pickle" | "NpzFile" | "Memory" | "open_database" => {
            Some(Reader::Likely)
        }
        _ => None,
    }
}

/// The names by which these take their path.
pub(super) const PATH_KEYWORDS: &[&str] = &[
    "filepath_or_buffer",
    "path_or_buffer",
    "path_or_buf",
    "path",
    "filepath",
    "file",
    "filename",
    "file_name",
    "fname",
    "io",
    "source",
    "name",
    "database",
    "dotenv_path",
    "filename_or_obj",
    "f",
    "filenames",
    "paths",
    "where",
    "file_path",
    "uri",
    "model_file",
    "path_or_paths",
    "source_path",
    "settings_file",
    "settings_files",
    "store",
    "fp",
];

/// Whether a function of that name opens the file of its first argument, with a mode in the second or under `mode`.
pub(super) fn is_opener(name: &str) -> bool {
    matches!(
        name,
        "builtins.open"
            | "io.open"
            | "os.open"
            | "_io.open"
            | "io.FileIO"
            | "io.open_code"
            | "codecs.open"
            | "gzip.open"
            | "gzip.GzipFile"
            | "bz2.open"
            | "bz2.BZ2File"
            | "lzma.open"
            | "lzma.LZMAFile"
            | "tarfile.open"
            | "tarfile.TarFile"
            | "tarfile.TarFile.open"
            | "tokenize.open"
            | "wave.open"
            | "shelve.open"
            | "dbm.open"
            | "zstandard.open"
            | "pyzstd.open"
            | "aiofiles.open"
            | "smart_open.open"
            | "PIL.Image.open"
            | "Image.open"
            | "xopen.xopen"
    )
}

/// Whether a mode writes and does not read what is there.
pub(super) fn writes(mode: &str) -> bool {
    mode.len() <= 8 && mode.contains(['w', 'a', 'x']) && mode.bytes().all(|byte| b"rwaxbtU+-:|gz2xstd".contains(&byte))
}

/// Whether a function or method of that name writes to the paths it takes, or removes them.
pub(super) fn is_writer(last: &str) -> bool {
    matches!(
        last,
        "to_csv"
            | "to_parquet"
            | "to_json"
            | "to_excel"
            | "to_pickle"
            | "to_feather"
            | "to_hdf"
            | "to_html"
            | "to_markdown"
            | "to_latex"
            | "to_stata"
            | "to_orc"
            | "to_xml"
            | "to_netcdf"
            | "to_zarr"
            | "to_file"
            | "to_yaml"
            | "tofile"
            | "write_csv"
            | "write_parquet"
            | "write_ipc"
            | "write_json"
            | "write_ndjson"
            | "write_excel"
            | "write_avro"
            | "write_delta"
            | "write_table"
            | "write_feather"
            | "write_html"
            | "write_image"
            | "write_text"
            | "write_bytes"
            | "sink_csv"
            | "sink_parquet"
            | "sink_ipc"
            | "savefig"
            | "save"
            | "savez"
            | "savez_compressed"
            | "savetxt"
            | "savemat"
            | "save_model"
            | "save_weights"
            | "dump"
            | "imwrite"
            | "imsave"
            | "mkdir"
            | "makedirs"
            | "unlink"
            | "remove"
            | "rmtree"
            | "rmdir"
            | "touch"
            | "FileHandler"
            | "RotatingFileHandler"
            | "TimedRotatingFileHandler"
            | "ExcelWriter"
            | "ParquetWriter"
    )
}
