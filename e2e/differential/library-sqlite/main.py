# sqlite3 in memory and in a file of the job directory.
import os
import sqlite3

db = sqlite3.connect("data.db")
with db:
    db.execute("create table t (id integer primary key, name text)")
    db.executemany("insert into t (name) values (?)", [("a",), ("é",), (None,)])
print(db.execute("select * from t order by id").fetchall(), sqlite3.sqlite_version_info > (3, 30), sqlite3.threadsafety)
db.close()
print(os.path.getsize("data.db") % 4096, sorted(os.listdir("."))[:1])
sqlite3.connect(":memory:").execute("select * from missing")
