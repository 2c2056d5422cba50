# Pool.map, imap, starmap and an exception's remote traceback.
import multiprocessing as mp


def square(n):
    return n * n


def bad(n):
    raise ValueError(f"bad {n}")


if __name__ == "__main__":
    with mp.Pool(2) as pool:
        print(pool.map(square, range(6)), list(pool.imap(square, [7, 8])), pool.starmap(pow, [(2, 3), (3, 2)]))
        try:
            pool.apply(bad, (1,))
        except ValueError as exc:
            print(exc, "in bad" in str(exc.__cause__))
