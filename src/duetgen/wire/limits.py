"""The maximum of every external input, in one place: nothing is allocated for a value above its limit."""

from __future__ import annotations

from typing import Final

MAX_INPUT_BYTES: Final = 64 * 2**30
"""Largest log file that is read, in bytes on disk."""

MAX_DECOMPRESSED_BYTES: Final = 256 * 2**30
"""Largest content that is read out of a compressed log, in bytes."""

UNPACKED_BYTES: Final = 2**30
MAX_UNPACKED_RATIO: Final = 200
"""A packed log may unpack to `UNPACKED_BYTES`, and beyond that to this many times its size on disk."""

UNPACKED_ROWS: Final = 2**24
"""Rows that a small Parquet file may have; beyond that as many for each of its bytes as `MAX_UNPACKED_RATIO`."""

MAX_PARTS: Final = 10_000
"""Most files in a folder of parts."""

MAX_ARCHIVE_MEMBERS: Final = 10_000
"""Most files in an archive that is looked into."""

MAX_IMAGES: Final = 1_000_000
"""Most pictures in a folder of images."""

MAX_IMAGE_VALUES: Final = 2**32
"""Most values, pixels times colours, in one file of images."""

MAX_IMAGE_BYTES: Final = 64 * 2**20
"""Largest picture file that is read, in bytes."""

MAX_IMAGE_PIXELS: Final = 2**26
"""Most pixels of one picture."""

MAX_LINE_BYTES: Final = 4 * 2**20
"""Longest line of a text log, in bytes."""

MAX_ID_BYTES: Final = 512
"""Longest user or item id, in UTF-8 bytes."""

MAX_TITLE_BYTES: Final = 2048
"""Longest title of an item, in UTF-8 bytes; longer ones are cut."""

MAX_EVENTS: Final = 2**31 - 1
"""Most events in one dataset."""

MAX_ITEMS: Final = 2**31 - 3
"""Most items in one dataset: indices are int32, and 0 and 1 are taken."""

MIN_TIMESTAMP: Final = -(2**62)
MAX_TIMESTAMP: Final = 2**62
"""Range of timestamps in seconds; outside it, arithmetic on int64 could overflow."""

MAX_WINDOW: Final = 1024
"""Longest window L_d that a device model may have, in events."""

MAX_GENERATOR_HISTORY: Final = 4096
"""Longest history L_g that a generator may read, in events."""

MAX_LOG_EVENTS: Final = 10_000
"""Events that a device's log holds, the newest; what is in it counts as met. Some 25 bytes each on disk."""

MAX_STALENESS: Final = 1_000_000
"""Oldest theta that can be asked for in evaluation, in events."""

MAX_BODY_BYTES: Final = 1 * 2**20
"""Largest request body that the service reads, in bytes, after any decompression."""

MAX_DEVICE_BYTES: Final = 128
"""Longest id of a device."""

MAX_TOKEN_BYTES: Final = 256
"""Longest access token."""

MAX_HEADER_BYTES: Final = 512
"""Longest header of a request that the service reads: a token, some entity tags, what is accepted."""

MAX_ADDRESS_BYTES: Final = 2048
"""Longest address of a cloud."""

MAX_STATE_BYTES: Final = 1 * 2**20
"""Most that a device reads of a JSON file in its state folder."""

MAX_TOLD: Final = 500
"""Longest text of somebody else's, an answer's or an exception's, that a device shows, in characters."""

MAX_BATCH_DEVICES: Final = 1024
"""Most devices in one call of the batch endpoint."""

MAX_BATCH_ANSWER_BYTES: Final = 256 * 2**20
"""Most bytes of theta in one answer of the batch endpoint."""

MAX_DOCUMENT_BYTES: Final = 64 * 2**20
"""Largest JSON or TOML file of a dataset, a run or a comparison."""

MAX_MANIFEST_BYTES: Final = 4 * 2**20
"""Largest manifest of a bundle."""

MAX_BUNDLE_NAME: Final = 256
"""Longest name of a bundle, in characters."""

MAX_MODEL_NAME: Final = 64
"""Longest name of a bundle's backbone, or of a model that has an opinion, in characters."""

MAX_BUNDLE_FILE_BYTES: Final = 4 * 2**30
"""Largest single file of a bundle."""

MAX_CLOUD_GRAPH_BYTES: Final = 2**30
"""Largest ONNX graph of a user's own cloud model."""

MAX_PARAMETERS: Final = 2**24
"""Most values in one theta."""

MAX_OPINIONS: Final = 4
"""Most opinions in an item bias."""

MAX_OPINION_ITEMS: Final = 1000
"""Most items of one opinion."""

MAX_TRUST_AGES: Final = 64
"""Most ages of theta that trust is given at."""

MAX_ANSWER_BYTES: Final = 4 * MAX_PARAMETERS + 6 * MAX_OPINIONS * MAX_OPINION_ITEMS + 2**16
"""Largest answer that a device reads for one theta."""

MAX_CLOCK_SKEW_MS: Final = 5 * 60 * 1000
"""How far in a device's future an answer may have been issued."""

MAX_HISTORY_BYTES: Final = 512 * 2**10
"""Largest history of samples in a request, in bytes."""

MAX_PICTURE_BYTES: Final = 31 * 2**10
"""Largest encoded picture in a request, in bytes: a history has room for sixteen."""

MAX_DECODED_BYTES: Final = 16 * 2**20
"""Most bytes that the samples of a history may become in memory."""

MAX_WAITING_BYTES: Final = 256 * 2**20
"""Most bytes of the histories that wait for a generator, or that it reads in one call."""

MAX_SAMPLE_VALUES: Final = 2**24
"""Most values along one dimension of an input, and of a sample."""

MAX_DIMENSIONS: Final = 8
"""Most dimensions of an input."""

MAX_TENSORS: Final = 32
"""Most inputs of a device's graph."""

MAX_IDS: Final = 2**31
"""Above every id of a history."""

MAX_PASSES: Final = 100_000
"""Most passes over the training part, and most without a better one before training stops."""
