# Carets under a very long source line with a multi-byte prefix.
data = {"é": "ü" * 3, "values": [1, 2, 3], "nested": {"a": {"b": {"c": None}}}, "padding-padding-padding-padding-padding": 1, "more": 2}
label = "äöü 漢字 🎉"; result = data["values"][0] + data["values"][1] + data["nested"]["a"]["b"]["c"]["d"] + data["values"][2] + len(label)
