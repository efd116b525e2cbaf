/* Replacements for libc's functions that change files: a restored file is there for all processes, so they are refused as
 * for everything in a layer, which is read-only. Included by fileaccess.h. */
#ifndef LAYER_FILECHANGES_H
#define LAYER_FILECHANGES_H

#define REFUSED(at, path, call) touch(path); return is_cold(at, path) ? (int)result_of(-EROFS) : call

extern int setxattr(const char *, const char *, const void *, size_t, int), removexattr(const char *, const char *);
struct utimbuf;
struct timeval;
extern int utime(const char *, const struct utimbuf *), utimes(const char *, const struct timeval[2]);
extern int truncate(const char *, off_t), chown(const char *, uid_t, gid_t);
extern int fchownat(int, const char *, uid_t, gid_t, int);

static int our_truncate(const char *path, off_t size) { REFUSED(AT_FDCWD, path, truncate(path, size)); }
static int our_chmod(const char *path, mode_t mode) { REFUSED(AT_FDCWD, path, chmod(path, mode)); }
static int our_fchmodat(int at, const char *path, mode_t mode, int flags) {
    REFUSED(at, path, fchmodat(at, path, mode, flags));
}
static int our_chown(const char *path, uid_t user, gid_t group) { REFUSED(AT_FDCWD, path, chown(path, user, group)); }
static int our_fchownat(int at, const char *path, uid_t user, gid_t group, int flags) {
    REFUSED(at, path, fchownat(at, path, user, group, flags));
}
static int our_utime(const char *path, const struct utimbuf *times) { REFUSED(AT_FDCWD, path, utime(path, times)); }
static int our_utimes(const char *path, const struct timeval *times) { REFUSED(AT_FDCWD, path, utimes(path, times)); }
static int our_utimensat(int at, const char *path, const struct timespec *times, int flags) {
    REFUSED(at, path, utimensat(at, path, times, flags));
}
static int our_setxattr(const char *path, const char *name, const void *value, size_t size, int flags) {
    REFUSED(AT_FDCWD, path, setxattr(path, name, value, size, flags));
}
static int our_removexattr(const char *path, const char *name) { REFUSED(AT_FDCWD, path, removexattr(path, name)); }

#define CHANGING_FUNCTIONS                                                                                         \
    {"truncate", (void *)our_truncate}, {"truncate64", (void *)our_truncate}, {"chmod", (void *)our_chmod},        \
        {"fchmodat", (void *)our_fchmodat}, {"chown", (void *)our_chown}, {"fchownat", (void *)our_fchownat},      \
        {"utime", (void *)our_utime}, {"utimes", (void *)our_utimes}, {"utimensat", (void *)our_utimensat},        \
        {"setxattr", (void *)our_setxattr}, {"removexattr", (void *)our_removexattr}

#endif
