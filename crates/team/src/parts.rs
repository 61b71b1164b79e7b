//! Loops over the parts of something, each part lent to the thread that has its turn.

#![expect(unsafe_code, reason = "elements of one slice are lent to several threads")]

use std::marker::PhantomData;

use crate::each;

/// Calls `of` for every item.
pub fn each_item<T: Send>(items: &mut [T], of: impl Fn(usize, &mut T) + Sync) {
    let apart = Apart { start: items.as_mut_ptr(), _borrow: PhantomData::<&mut [T]> };
    each(items.len(), |index| {
        // SAFETY: a loop visits every index below its count once, so nobody else has this item.
        of(index, unsafe { apart.lend(index) });
    });
}

/// Calls `of` for every chunk of `size` items, the last of which may be shorter.
pub fn each_chunk<T: Send>(items: &mut [T], size: usize, of: impl Fn(usize, &mut [T]) + Sync) {
    let mut chunks: Vec<&mut [T]> = items.chunks_mut(size).collect();
    each_item(&mut chunks, |index, chunk| of(index, chunk));
}

/// What `of` makes of every index below `count`, in order.
pub fn map<R: Send>(count: usize, of: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let mut made: Vec<Option<R>> = (0..count).map(|_| None).collect();
    each_item(&mut made, |index, made| *made = Some(of(index)));
    made.into_iter().flatten().collect()
}

/// What `of` makes of every item, in order; items are given away.
pub fn map_items<T: Send, R: Send>(items: Vec<T>, of: impl Fn(T) -> R + Sync) -> Vec<R> {
    let mut places: Vec<(Option<T>, Option<R>)> =
        items.into_iter().map(|item| (Some(item), None)).collect();
    each_item(&mut places, |_, (item, made)| *made = item.take().map(&of));
    places.into_iter().filter_map(|(_, made)| made).collect()
}

/// Does something as a loop of one: within a loop nobody is kept waiting by whoever does it.
pub fn once<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let mut made = map_items(vec![work], |work| work());
    made.pop().expect("a loop visits every index")
}

/// A slice whose items are borrowed one by one.
struct Apart<'a, T> {
    start: *mut T,
    _borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: items are lent to one thread at a time, which is what sending them there takes.
unsafe impl<T: Send> Sync for Apart<'_, T> {}

impl<T> Apart<'_, T> {
    /// # Safety
    ///
    /// The index is one of the slice, and nobody else has been lent that item.
    #[expect(clippy::mut_from_ref, reason = "who calls promises that the borrow is the only one")]
    unsafe fn lend(&self, index: usize) -> &mut T {
        // SAFETY: the item lies in the slice, which is borrowed uniquely for as long as `self` is.
        unsafe { &mut *self.start.add(index) }
    }
}
