-- Run once, by the image, when the volume is new: the registry keeps its schemas beside Tidegate's jobs.
CREATE DATABASE registry;
