raise RuntimeError("shadow encodings imported")
