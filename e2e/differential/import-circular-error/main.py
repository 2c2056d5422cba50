# A circular `from` import: the "partially initialized module" text.
import one
