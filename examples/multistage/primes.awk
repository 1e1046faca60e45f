# Prints the primes below `limit`.
BEGIN {
    for (n = 2; n < limit; n++) {
        prime = 1
        for (d = 2; d * d <= n; d++) if (n % d == 0) { prime = 0; break }
        if (prime) printf "%d ", n
    }
    print ""
}
